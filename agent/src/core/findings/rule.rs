//! The rules of good ticket practice: their names, and how grave it is to break them.

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Resumption does not work, or is unsafe: act now.
    Error,
    /// It costs users or servers something, or will.
    Warning,
    /// Worth knowing; may be as intended.
    Info,
}

impl Severity {
    /// `severity`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

macro_rules! rules {
    ($($(#[$doc:meta])+ $rule:ident = $id:literal, $title:literal;)+) => {
        /// One rule.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Rule {
            $($(#[$doc])+ $rule,)+
        }

        impl Rule {
            pub const ALL: &'static [Self] = &[$(Self::$rule,)+];

            /// `id` of a finding.
            pub const fn id(self) -> &'static str {
                match self {
                    $(Self::$rule => $id,)+
                }
            }

            /// What is wrong, in a few words.
            pub const fn title(self) -> &'static str {
                match self {
                    $(Self::$rule => $title,)+
                }
            }
        }
    };
}

rules! {
    /// A server name resumes less often than is aimed at.
    QuotaLow = "quota_low", "Quota below target";
    /// Clients offer tickets, and the server never takes one.
    TicketsNeverAccepted = "tickets_never_accepted", "Tickets are never accepted";
    /// Neither tickets nor session IDs are given out.
    NoResumptionOffered = "no_resumption_offered", "The server gives nothing to resume by";
    /// The server gives tickets, and hardly any client offers one.
    ClientsNeverOffer = "clients_never_offer", "Clients hardly ever offer to resume";
    /// A key issues tickets for longer than it should.
    KeyNotRotated = "key_not_rotated", "Ticket key not rotated";
    /// Keys follow each other so fast that tickets outlive them.
    KeyRotatedTooFast = "key_rotated_too_fast", "Ticket keys rotate faster than tickets expire";
    /// A key is gone while its tickets are still valid.
    KeyRetiredEarly = "key_retired_early", "Ticket key retired while its tickets were valid";
    /// A key can be guessed.
    KeyWeak = "key_weak", "Ticket key can be guessed";
    /// Several services use the same key.
    KeyShared = "key_shared", "Services share a ticket key";
    /// A node issues tickets that another one cannot read.
    KeyNotDistributed = "key_not_distributed", "Tickets of one node are unknown to another";
    /// Clients come back just after their tickets expired.
    LifetimeShort = "lifetime_short", "Tickets expire before clients come back";
    /// More tickets are sent than clients use.
    TicketsWasted = "tickets_wasted", "More tickets than clients use";
    /// The same name speaks HTTP/2 here and only HTTP/1.1 there.
    AlpnDiffers = "alpn_differs", "Application protocols differ for one name";
    /// The same name has another cipher suite here than there.
    CipherDiffers = "cipher_differs", "Cipher suites differ for one name";
    /// The same name has another TLS version here than there.
    VersionDiffers = "version_differs", "TLS versions differ for one name";
    /// Early data is accepted over one transport and refused over the other.
    EarlyDataDiffers = "early_data_differs", "0-RTT differs between HTTP/3 and HTTP/2 or 1.1";
    /// Early data is accepted; what the requests are cannot be seen.
    EarlyDataAccepted = "early_data_accepted", "0-RTT is accepted";
    /// The certificate chain does not fit into the first flight.
    ChainLarge = "chain_large", "Certificate chain beyond the first flight";
    /// Clients ask for a stapled OCSP response and get none.
    OcspNotStapled = "ocsp_not_stapled", "No stapled OCSP response";
    /// An RSA certificate where clients could do ECDSA.
    RsaCertificate = "rsa_certificate", "RSA certificate where clients could do ECDSA";
    /// TLS 1.0 or 1.1 is in use.
    VersionOld = "version_old", "TLS 1.0 or 1.1 in use";
    /// Cipher suites without forward secrecy or authenticated encryption are in use.
    CipherOld = "cipher_old", "Old cipher suites in use";
    /// The host's clock is not synchronised.
    ClockOff = "clock_off", "Clock not synchronised";
    /// Connections that this host opens never resume.
    UpstreamNeverResumes = "upstream_never_resumes", "Upstream connections never resume";
    /// This host opens a connection for each request.
    UpstreamNoKeepalive = "upstream_no_keepalive", "Upstream connections are not kept";
}
