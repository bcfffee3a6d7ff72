//! Which shapes of machine code are taken for ticket decryption, and which are not: small
//! libraries of the same exports, compiled here.
//!
//! A library whose session cannot be proved to be in a register on every path must be refused: a
//! probe there would read freed or foreign memory and count wrong.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use resumetry::host::openssl::{
    FieldError, InspectError, Layout, Tickets, TicketsError, Unit, inspect,
};

/// What a library has besides its ticket decryption.
const AROUND: &str = r#"
#include <stddef.h>
#include <string.h>
typedef struct ctx CTX;
typedef struct { int version; char gap[0x2d4]; long timeout, time; } SESSION;
CTX *EVP_CIPHER_CTX_new(void);
void EVP_CIPHER_CTX_free(CTX *);
int EVP_DecryptUpdate(CTX *, unsigned char *, int *, const unsigned char *, int);
int EVP_DecryptFinal(CTX *, unsigned char *, int *);
void *CRYPTO_malloc(size_t, const char *, int);
void CRYPTO_free(void *, const char *, int);
extern SESSION *parse(const unsigned char **, long);
extern int hook(void *);
extern void SSL_SESSION_release(SESSION *);
__attribute__((noinline))
SESSION *d2i_SSL_SESSION(SESSION **a, const unsigned char **p, long n) { return parse(p, n); }
__attribute__((noinline))
void SSL_SESSION_free(SESSION *s) { SSL_SESSION_release(s); }
#ifndef ACCESSORS
long SSL_SESSION_get_time(const SESSION *s) { return s ? s->time : 0; }
long SSL_SESSION_get_timeout(const SESSION *s) { return s ? s->timeout : 0; }
#endif
int SSL_SESSION_get_protocol_version(const SESSION *s) { return s->version; }
"#;

/// As OpenSSL's, shortened. `SLEN`, `DONE` and the like let a test spoil one thing.
const DECRYPTION: &str = r#"
#ifndef NAME
#define NAME decrypt_ticket
#endif
#ifndef FORGET
#define FORGET sess = NULL
#endif
#ifndef BEFORE
#define BEFORE
#endif
#ifndef GOOD
#define GOOD
#endif
#ifndef DONE
#define DONE
#endif
#ifndef FREED
#define FREED ctx
#endif
#ifndef FINAL
#define FINAL EVP_DecryptFinal
#endif
__attribute__((visibility("default")))
int NAME(void *s, unsigned char *tick, size_t n, const unsigned char *id, size_t idlen,
         SESSION **psess, int (*callback)(void *, unsigned char *, CTX *))
{
    SESSION *sess = NULL;
    unsigned char *plain;
    const unsigned char *p;
    int slen, more, ret = 1, known;
    CTX *ctx = NULL;
    BEFORE;
    if (n == 0) { ret = 3; goto end; }
    if (n < 32) { ret = 4; goto end; }
    ctx = EVP_CIPHER_CTX_new();
    if (ctx == NULL) { ret = 0; goto end; }
    known = callback(s, tick, ctx);
    if (known < 0) goto end;
    if (known == 0) { ret = 4; goto end; }
    plain = CRYPTO_malloc(n, "file", 1);
    if (plain == NULL || EVP_DecryptUpdate(ctx, plain, &slen, tick + 32, (int)n) <= 0) {
        CRYPTO_free(plain, "file", 2);
        goto end;
    }
    if (FINAL(ctx, plain + slen, &more) <= 0) {
        CRYPTO_free(plain, "file", 3);
        ret = 4;
        goto end;
    }
    slen += more;
    p = plain;
    sess = d2i_SSL_SESSION(NULL, &p, slen);
    slen -= p - plain;
    CRYPTO_free(plain, "file", 4);
    if (sess) {
        if (slen != 0) {
            SSL_SESSION_free(sess);
            FORGET;
            ret = 4;
            goto end;
        }
        if (idlen) memcpy(&sess->gap[16], id, idlen);
        GOOD;
        ret = known == 2 ? 6 : 5;
        goto end;
    }
    ret = 4;
end:
    DONE;
    EVP_CIPHER_CTX_free(FREED);
    if (hook(s)) ret = 1;
    *psess = sess;
    return ret;
}
"#;

/// Compiles a library: options and defines, and what comes after [`AROUND`].
fn compile(name: &str, options: &[&str], code: &str) -> Vec<u8> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openssl_code");
    fs::create_dir_all(&directory).unwrap();
    let source = directory.join(format!("{name}.c"));
    let library = directory.join(format!("{name}.so"));
    fs::write(&source, format!("{AROUND}{code}")).unwrap();
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-w", "-O2"])
        .args(options)
        .arg("-o")
        .args([&library, &source])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::read(library).unwrap()
}

fn layout(name: &str, options: &[&str]) -> Layout {
    inspect(&compile(name, options, DECRYPTION)).unwrap()
}

fn tickets(name: &str, options: &[&str]) -> Result<Tickets, TicketsError> {
    layout(name, options).tickets
}

fn is_found(tickets: &Result<Tickets, TicketsError>) -> bool {
    let has_session = |tickets: &Tickets| {
        let mut probes = tickets.probes.iter();
        probes.any(|probe| probe.site.session.is_some())
    };
    tickets.as_ref().is_ok_and(has_session)
}

#[test]
fn takes_what_compilers_make_of_it() {
    for (name, options) in [
        ("plain", &[][..]),
        ("less", &["-O1"]),
        ("more", &["-O3"]),
        ("small", &["-Os"]),
        ("frames", &["-fno-omit-frame-pointer"]),
        ("endbr64", &["-fcf-protection=full", "-Wl,-z,ibtplt"]),
        (
            "canary",
            &["-fstack-protector-all", "-fzero-call-used-regs=used"],
        ),
        ("symbolic", &["-Wl,-Bsymbolic"]),
        ("now", &["-Wl,-z,now"]),
    ] {
        let tickets = tickets(name, options);
        assert!(is_found(&tickets), "{name}: {tickets:?}");
        assert_eq!(tickets.unwrap().other_exits, [0; 0], "{name}");
    }
}

#[test]
fn says_when_a_probe_would_be_dear() {
    let by_stub = tickets("stub", &[]).unwrap();
    assert!(by_stub.probes.iter().all(|probe| probe.emulated));
    let by_slot = tickets("slot", &["-fno-plt"]).unwrap();
    assert!(by_slot.probes.iter().all(|probe| !probe.emulated));
}

/// Without optimisation variables are in memory, and no register holds the session at the call.
#[test]
fn rejects_session_in_memory() {
    let tickets = tickets("memory", &["-O0"]);
    assert!(
        matches!(tickets, Err(TicketsError::NoRegister(_))),
        "{tickets:?}"
    );
}

#[test]
fn rejects_session_that_was_freed_but_not_forgotten() {
    let tickets = tickets("freed", &["-DFORGET="]);
    assert!(
        matches!(tickets, Err(TicketsError::NoRegister(_))),
        "{tickets:?}"
    );
}

/// As LibreSSL does: the caller has it already.
#[test]
fn rejects_session_that_was_given_away_before_the_end() {
    let tickets = tickets("given", &["-DGOOD=*psess=sess;sess=NULL"]);
    assert!(
        matches!(
            tickets,
            Err(TicketsError::NoRegister(_) | TicketsError::NoEnd(_))
        ),
        "{tickets:?}"
    );
}

#[test]
fn rejects_session_that_another_function_may_have_freed() {
    let tickets = tickets("handed", &["-DGOOD=hook(sess)"]);
    assert!(
        matches!(tickets, Err(TicketsError::NoRegister(_))),
        "{tickets:?}"
    );
}

#[test]
fn rejects_end_that_frees_something_else() {
    let tickets = tickets("other", &["-DFREED=(CTX*)s"]);
    assert!(
        matches!(tickets, Err(TicketsError::NoContext(_))),
        "{tickets:?}"
    );
}

/// One ticket would count twice.
#[test]
fn rejects_two_ends_on_one_path() {
    let tickets = tickets("twice", &["-DDONE=EVP_CIPHER_CTX_free(ctx)"]);
    assert!(
        matches!(tickets, Err(TicketsError::Twice(_))),
        "{tickets:?}"
    );
}

#[test]
fn rejects_function_that_only_parses() {
    let tickets = tickets("parses", &["-DEVP_DecryptUpdate=other", "-DFINAL=another"]);
    assert_eq!(tickets, Err(TicketsError::NotFound));
}

#[test]
fn rejects_two_functions_that_decrypt() {
    let both = format!("{DECRYPTION}\n#undef NAME\n#define NAME second\n{DECRYPTION}");
    let layout = inspect(&compile("both", &["-fno-ipa-icf"], &both)).unwrap();
    let Err(TicketsError::Ambiguous(one, other)) = layout.tickets else {
        panic!("{layout:?}");
    };
    assert_ne!(one, other);
}

/// A jump table before the end: where it leads is not followed.
#[test]
fn rejects_computed_jump_before_the_end() {
    let table = "-DBEFORE=switch(n&7){case 0:hook(s);case 1:hook(tick);case 2:hook(0);case 3:\
                 ret=hook(psess);case 4:hook(s);case 5:hook(tick);case 6:hook(psess);}";
    let tickets = tickets("table", &[table]);
    assert!(
        matches!(tickets, Err(TicketsError::ComputedJump(_))),
        "{tickets:?}"
    );
}

#[test]
fn names_the_exits_that_pass_no_probe() {
    let tickets = tickets("early", &["-DBEFORE=if(n==7)return 9"]);
    assert!(is_found(&tickets));
    assert!(!tickets.unwrap().other_exits.is_empty());
}

/// The compiler may move what is unlikely out of the function.
#[test]
fn follows_parts_that_were_split_off() {
    let unlikely =
        "-DBEFORE=if(__builtin_expect(n==7,0)){hook(tick);cold();hook(psess);ret=3;goto end;}";
    let code = format!("__attribute__((cold)) extern void cold(void);\n{DECRYPTION}");
    let layout = inspect(&compile("split", &[unlikely], &code)).unwrap();
    assert!(is_found(&layout.tickets), "{layout:?}");
}

/// What is known on the way there is not known to whoever comes from elsewhere.
#[test]
fn rejects_jumps_into_it_from_outside() {
    let inside = r#"-DDONE=__asm__ volatile(".globl inside\ninside:")"#;
    let outside = r#"__asm__(".text\n.globl outside\n.type outside,@function\n\
                     outside: .cfi_startproc\n.byte 0xe9\n.long inside - . - 4\n.cfi_endproc");"#;
    let code = format!("{DECRYPTION}\n{outside}");
    let options = [inside, "-Wl,-Bsymbolic"];
    let layout = inspect(&compile("outside", &options, &code)).unwrap();
    assert!(
        matches!(layout.tickets, Err(TicketsError::EnteredInside(_))),
        "{:?}",
        layout.tickets
    );
}

#[test]
fn reads_times_in_nanoseconds_however_they_are_divided() {
    let code = format!(
        "unsigned long nanoseconds(unsigned long t) {{ return t / 1000000000; }}\n\
         long SSL_SESSION_get_time(const SESSION *s) {{ \
             return s ? (unsigned long)s->time / 1000000000 : 0; }}\n\
         long SSL_SESSION_get_timeout(const SESSION *s) {{ \
             return (unsigned long)s->timeout / 1000000000; }}\n{DECRYPTION}"
    );
    for (name, options) in [
        ("divided", &["-DACCESSORS"][..]),
        ("divided_small", &["-DACCESSORS", "-Os"]),
        (
            "divided_frames",
            &["-DACCESSORS", "-fno-omit-frame-pointer"],
        ),
        ("divided_new", &["-DACCESSORS", "-march=haswell"]),
    ] {
        let layout = inspect(&compile(name, options, &code)).unwrap();
        let time = layout.session.time.unwrap();
        assert_eq!(
            (time.offset, time.unit),
            (0x2e0, Unit::Nanoseconds),
            "{name}"
        );
        let site = layout.tickets.unwrap().probes[0].site;
        assert!(site.nanoseconds);
        assert_eq!(site.timeout_offset, Some(0x2d8));
    }
}

/// A field that is read otherwise than expected is left out, and the decision stays readable.
#[test]
fn leaves_out_fields_that_are_no_plain_loads() {
    let accessors = |time: &str| {
        format!(
            "extern SESSION *other(const SESSION *);\n\
             long SSL_SESSION_get_time(const SESSION *s) {{ return {time}; }}\n\
             long SSL_SESSION_get_timeout(const SESSION *s) {{ return s->timeout; }}\n{DECRYPTION}"
        )
    };
    let function = "SSL_SESSION_get_time";
    for (name, time, error) in [
        ("sum", "s->time + 1", FieldError::NotPlainLoad(function)),
        (
            "two",
            "s->time + s->timeout",
            FieldError::NotPlainLoad(function),
        ),
        ("call", "other(s)->time", FieldError::NotPlainLoad(function)),
        (
            "milliseconds",
            "(unsigned long)s->time / 1000",
            FieldError::NotPlainLoad(function),
        ),
        ("constant", "42", FieldError::NotPlainLoad(function)),
        ("narrow", "*(int *)&s->time", FieldError::Size(function, 4)),
        (
            "units",
            "(unsigned long)s->time / 1000000000",
            FieldError::Units(function, "SSL_SESSION_get_timeout"),
        ),
    ] {
        let layout = inspect(&compile(name, &["-DACCESSORS"], &accessors(time))).unwrap();
        assert_eq!(layout.session.time, Err(error), "{name}");
        assert!(is_found(&layout.tickets));
        assert_eq!(layout.tickets.unwrap().probes[0].site.time_offset, None);
    }
}

#[test]
fn rejects_openssls_descendants() {
    for (symbol, name) in [
        ("SSL_SESSION_from_bytes", "BoringSSL or AWS-LC"),
        ("SSL_CTX_use_certificate_chain_mem", "LibreSSL"),
    ] {
        let code = format!("int {symbol}(void) {{ return 0; }}\n{DECRYPTION}");
        let bytes = compile(symbol, &[], &code);
        assert_eq!(inspect(&bytes), Err(InspectError::OtherLibrary(name)));
    }
}

/// A million calls, each of which could be ticket decryption's.
#[test]
fn gives_up_on_endless_code() {
    let calls = "asm(\".text\\n.globl endless\\n.type endless,@function\\nendless: .cfi_startproc\\n\
                 .rept 300000\\ncall EVP_DecryptUpdate@PLT\\ncall d2i_SSL_SESSION@PLT\\n.endr\\n\
                 ret\\n.cfi_endproc\");";
    let bytes = compile("endless", &[], calls);
    let start = Instant::now();
    let layout = inspect(&bytes).unwrap();
    assert_eq!(layout.tickets, Err(TicketsError::TooLong));
    assert!(start.elapsed() < Duration::from_secs(30));
}
