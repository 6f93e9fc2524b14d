//! `hallmark evidence` and `hallmark keys evidence`: where a key was born, for whoever audits; and `hallmark keys custody`,
//! the keys that evidence is signed with.

use std::{
    fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hallmark_client::{Client, Key, KeyState};
use hallmark_core::{
    certificate::{chain, pem},
    client::Custody,
    evidence::{
        Nonce,
        document::jwk,
        roots::Roots,
        verify::{Report, Trust, verify},
    },
    public_key::PublicKey,
    time::Timestamp,
};
use serde_json::{Value, json};

use super::{
    Failure,
    args::{CustodyArgs, EvidenceCommand, KeyEvidenceArgs, VerifyArgs},
    connect::failure,
    custody_keys, input,
    output::{Output, now, printable, table},
};

/// `hallmark evidence`: needs no server.
pub(super) fn run(command: EvidenceCommand, json: bool) -> Result<u8, Failure> {
    let EvidenceCommand::Verify(args) = command;
    let VerifyArgs { file, custody_key, roots, nonce, require } = args;
    let text = String::from_utf8_lossy(&read(&file)?).into_owned();
    let trust = Trust {
        custody_keys: custody_key.as_deref().map(custody_keys::read).transpose()?.unwrap_or_default(),
        roots: roots_of(roots.as_deref())?,
        nonce: nonce.map(|nonce| nonce.0),
        now: timestamp(now()),
    };
    let report = verify(&text, &trust);
    let short = require.map(Custody::from).filter(|wanted| !meets(&report, *wanted));
    let holds = report.holds() && short.is_none();
    let output = if json { as_json(&report, holds) } else { as_text(&report, short) };
    output.print().map(|_| u8::from(!holds))
}

/// What is no file yet is mostly evidence that nobody has asked for.
fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let missing = file.as_os_str() != "-" && !file.exists();
    input::read(file, LONGEST).map_err(|failure| match missing {
        true => {
            let out = super::consent::quoted(&file.display().to_string());
            failure
                .hint(format!("is the path right? an operator has it written: hallmark keys evidence KID --out {out}"))
        }
        false => failure,
    })
}

/// `hallmark keys evidence`.
pub(super) async fn of_key(args: KeyEvidenceArgs, hallmark: &Client, json: bool) -> Result<u8, Failure> {
    let KeyEvidenceArgs { kid, nonce, out, roots } = args;
    let roots = roots_of(roots.as_deref())?;
    let nonce = nonce.map_or_else(random_nonce, |nonce| Ok(nonce.0))?;
    let evidence = hallmark.key_evidence(&kid, nonce.as_bytes()).await;
    let evidence = evidence.map_err(|error| failure(&error, "CLIENT"))?;
    if let Some(out) = &out {
        let written = fs::write(out, format!("{}\n", evidence.jws));
        written.map_err(|error| Failure::new(format!("can't write `{}`", out.display())).caused_by(&error))?;
    }
    let trust = Trust { custody_keys: Vec::new(), roots, nonce: Some(nonce.clone()), now: timestamp(now()) };
    let report = verify(&evidence.jws, &trust);
    let output = if json {
        let mut value = value(&report, report.holds());
        value["jws"] = evidence.jws.into();
        value["nonce"] = BASE64_URL_SAFE_NO_PAD.encode(nonce.as_bytes()).into();
        Output::json(&value)
    } else {
        let mut output = as_text(&report, None);
        output.stderr = next_step(out.as_deref(), &nonce);
        output
    };
    output.print().map(|_| u8::from(!report.holds()))
}

/// `hallmark keys custody`.
pub(super) async fn custody(args: CustodyArgs, hallmark: &Client, json: bool) -> Result<u8, Failure> {
    let CustodyArgs { hsm, pem: as_pem } = args;
    let mut keys = hallmark.list_keys(None).await.map_err(|error| failure(&error, "CLIENT"))?;
    keys.retain(|key| {
        let wanted = hsm.as_ref().is_none_or(|hsm| *hsm == key.hsm);
        key.purpose == "custody" && key.kid.is_some() && key.state != KeyState::Compromised && wanted
    });
    let output = match (json, as_pem) {
        (true, _) => Output::json(&json!({ "keys": keys.iter().map(custody_jwk).collect::<Result<Vec<_>, _>>()? })),
        (_, true) => {
            Output { stdout: keys.iter().map(|key| pem("PUBLIC KEY", &key.spki)).collect(), ..Output::default() }
        }
        _ => custody_as_text(&keys),
    };
    output.print()
}

/// Its JWK, and which HSM has it.
fn custody_jwk(key: &Key) -> Result<Value, Failure> {
    let bad = |why: String| Failure::new(format!("a custody key that can't be read: `{}`", key.id)).because(why);
    let public = PublicKey::from_spki(&key.spki).map_err(|error| bad(error.to_string()))?;
    let kid = key.kid.clone().unwrap_or_default().parse().map_err(|error| bad(format!("{error}")))?;
    let alg = key.alg.parse().map_err(|error| bad(format!("{error}")))?;
    let mut jwk = jwk(&public, &kid, alg).map_err(|error| bad(error.to_string()))?;
    jwk["hsm"] = key.hsm.clone().into();
    Ok(jwk)
}

fn custody_as_text(keys: &[Key]) -> Output {
    let head = ["HSM", "KID", "ALG", "STATE"].map(str::to_owned);
    let row = |key: &Key| {
        [key.hsm.clone(), key.kid.clone().unwrap_or_default(), key.alg.clone(), key.state.as_str().to_owned()]
            .map(|text| printable(&text))
    };
    let rows: Vec<_> = std::iter::once(head).chain(keys.iter().map(row)).collect();
    let stderr = "hint: what an auditor keeps: hallmark keys custody --json > custody.json\n".to_owned();
    Output { stdout: table(&rows), stderr }
}

/// What is claimed is enough but for an attestation: whoever asks for that wants it shown.
fn meets(report: &Report, wanted: Custody) -> bool {
    let best =
        report.custody.map(|custody| if report.attestation.is_some() { custody } else { custody.max(Custody::Local) });
    best.is_some_and(|best| best <= wanted)
}

fn as_text(report: &Report, short: Option<Custody>) -> Output {
    let line = |finding: &hallmark_core::evidence::verify::Finding| {
        format!("{:<10} {}\n", finding.standing.as_str(), printable(&finding.text))
    };
    let mut stdout: String = report.findings.iter().map(line).collect();
    if let Some(wanted) = short {
        stdout += &format!("{:<10} its custody is not {}, which is asked for\n", "failed", wanted.as_str());
    }
    stdout += match report.holds() && short.is_none() {
        true => "\nIt holds: what is proven is so, whoever sent this; what is claimed is as good as who signed it.\n",
        false => "\nIt does not hold: rely on none of it.\n",
    };
    Output { stdout, ..Output::default() }
}

fn as_json(report: &Report, holds: bool) -> Output {
    Output::json(&value(report, holds))
}

fn value(report: &Report, holds: bool) -> Value {
    json!({
        "holds": holds,
        "custody": report.custody,
        "issued_at": report.issued_at,
        "findings": report.findings,
        "attestation": report.attestation,
        "evidence": report.document,
    })
}

fn next_step(out: Option<&Path>, nonce: &Nonce) -> String {
    let file = out.map_or_else(|| "FILE".to_owned(), |out| super::consent::quoted(&out.display().to_string()));
    let first = if out.is_some() { "" } else { "hint: --out FILE writes it, signed, for whoever audits\n" };
    format!("{first}hint: hallmark evidence verify {file} --nonce {nonce:?} --custody-key custody.json\n")
}

fn random_nonce() -> Result<Nonce, Failure> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Failure::new("the random generator failed"))?;
    Nonce::new(bytes.to_vec()).map_err(|error| Failure::new(error.message))
}

fn roots_of(path: Option<&Path>) -> Result<Roots, Failure> {
    let roots = Roots::yubico();
    let Some(path) = path else { return Ok(roots) };
    let bad = |error: hallmark_core::error::Error| {
        Failure::new(format!("can't use --roots: `{}`", path.display())).because(error.message)
    };
    roots.with_pem(&input::read(path, chain::LONGEST)?).map_err(bad)
}

fn timestamp(time: SystemTime) -> Timestamp {
    let millis = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

/// More is no evidence.
const LONGEST: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_comes_with_the_command_that_writes_it() {
        let said = read(Path::new("no such.jws")).unwrap_err().render(false);
        assert!(said.contains("No such file"), "{said}");
        assert!(
            said.contains("hint: is the path right?") && said.contains("keys evidence KID --out 'no such.jws'"),
            "{said}"
        );
    }
}
