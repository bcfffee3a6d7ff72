//! Throw-away certificates: one authority, server certificates signed by it, client certificates
//! signed by it or by a stranger.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509NameBuilder};

/// Kind of key under a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// ECDSA on P-256.
    Ecdsa,
    Rsa2048,
    Rsa4096,
}

/// A certificate and its private key.
#[derive(Clone)]
pub struct Identity {
    pub certificate: X509,
    pub key: PKey<Private>,
}

impl Identity {
    /// A self-signed authority.
    pub fn authority(name: &str) -> Result<Self> {
        Self::authority_on(name, Key::Ecdsa)
    }

    /// The same with a key of this kind.
    pub fn authority_on(name: &str, kind: Key) -> Result<Self> {
        let key = generate(kind)?;
        let mut builder = builder(name, &key)?;
        builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
        let issuer = builder_name(name)?;
        builder.set_issuer_name(&issuer)?;
        builder.sign(&key, MessageDigest::sha256())?;
        Ok(Self {
            certificate: builder.build(),
            key,
        })
    }

    /// An authority that is signed by this one.
    pub fn intermediate(&self, name: &str, kind: Key) -> Result<Self> {
        let key = generate(kind)?;
        let mut builder = builder(name, &key)?;
        builder.set_issuer_name(self.certificate.subject_name())?;
        let constraints = BasicConstraints::new().critical().ca().pathlen(0).build()?;
        builder.append_extension(constraints)?;
        builder.sign(&self.key, MessageDigest::sha256())?;
        Ok(Self {
            certificate: builder.build(),
            key,
        })
    }

    /// A leaf for `name`, signed by this authority.
    pub fn issue(&self, name: &str, kind: Key) -> Result<Self> {
        let key = generate(kind)?;
        let mut builder = builder(name, &key)?;
        builder.set_issuer_name(self.certificate.subject_name())?;
        let names = SubjectAlternativeName::new()
            .dns(name)
            .build(&builder.x509v3_context(Some(&self.certificate), None))?;
        builder.append_extension(names)?;
        builder.sign(&self.key, MessageDigest::sha256())?;
        Ok(Self {
            certificate: builder.build(),
            key,
        })
    }

    /// Writes `STEM.crt`, `STEM.key` and `both/STEM.pem` (both in one) to `directory`.
    pub fn write(&self, directory: &Path, stem: &str) -> Result<Files> {
        self.write_chain(&[], directory, stem)
    }

    /// The same with the certificates of the authorities that clients do not have.
    pub fn write_chain(&self, chain: &[&X509], directory: &Path, stem: &str) -> Result<Files> {
        let mut certificate = self.certificate.to_pem()?;
        for authority in chain {
            certificate.extend(authority.to_pem()?);
        }
        let key = self.key.private_key_to_pem_pkcs8()?;
        let files = Files {
            certificate: directory.join(format!("{stem}.crt")),
            key: directory.join(format!("{stem}.key")),
            both: directory.join("both").join(format!("{stem}.pem")),
        };
        fs::create_dir_all(directory.join("both"))?;
        fs::write(&files.certificate, &certificate)?;
        fs::write(&files.key, &key)?;
        fs::write(&files.both, [certificate, key].concat())?;
        Ok(files)
    }
}

/// An OCSP response (DER) of this authority about a certificate, both in PEM, as a server can staple it: it
/// says that the certificate is unknown, which takes no database.
pub fn ocsp_response(authority: &Files, certificate: &Files, directory: &Path) -> Result<PathBuf> {
    let [request, database, response] =
        ["request.der", "database.txt", "response.der"].map(|name| directory.join(name));
    fs::write(&database, "")?;
    let run = |arguments: &[&dyn AsRef<OsStr>]| -> Result<()> {
        let mut command = Command::new("openssl");
        command.arg("ocsp").args(arguments);
        let output = command.output().context("cannot run openssl")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?}: {said}");
        Ok(())
    };
    let signer = &authority.certificate;
    run(&[
        &"-no_nonce",
        &"-issuer",
        signer,
        &"-cert",
        &certificate.certificate,
        &"-reqout",
        &request,
    ])?;
    run(&[
        &"-index",
        &database,
        &"-CA",
        signer,
        &"-rsigner",
        signer,
        &"-rkey",
        &authority.key,
        &"-reqin",
        &request,
        &"-respout",
        &response,
        &"-noverify",
    ])?;
    Ok(response)
}

/// Where an [`Identity`] was written, PEM.
#[derive(Clone, Debug)]
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Certificate and key in one file, as HAProxy wants them.
    pub both: PathBuf,
}

fn generate(kind: Key) -> Result<PKey<Private>> {
    Ok(match kind {
        Key::Ecdsa => {
            let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
            PKey::from_ec_key(EcKey::generate(&group)?)?
        }
        Key::Rsa2048 => PKey::from_rsa(Rsa::generate(2048)?)?,
        Key::Rsa4096 => PKey::from_rsa(Rsa::generate(4096)?)?,
    })
}

fn builder_name(name: &str) -> Result<openssl::x509::X509Name> {
    let mut subject = X509NameBuilder::new()?;
    subject.append_entry_by_nid(Nid::COMMONNAME, name)?;
    Ok(subject.build())
}

fn builder(name: &str, key: &PKey<Private>) -> Result<X509Builder> {
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::MAYBE_ZERO, false)?;
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    builder.set_serial_number(&*serial.to_asn1_integer()?)?;
    builder.set_subject_name(&*builder_name(name)?)?;
    builder.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    builder.set_not_after(&*Asn1Time::days_from_now(30)?)?;
    builder.set_pubkey(key)?;
    Ok(builder)
}
