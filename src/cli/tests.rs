use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("hallmark").chain(line.split_whitespace()))
}

#[test]
fn the_definition_holds() {
    Cli::command().debug_assert();
}

#[test]
fn what_the_documents_say_can_be_typed() {
    let lines = [
        "serve --config hallmark.toml",
        "serve --config hallmark.toml --unsafe-testing",
        "check-config --config hallmark.toml --json",
        "dev",
        "dev --ephemeral --json --exit-with-stdin --client a:RS384 --client b:ES384 --token-endpoint http://as/token",
        "sign clinic --alg ES384 --audience x --lifetime 1m --scope read --claims {} --connection c.toml --json",
        "--json token clinic --scope system/Patient.rs",
        "keys list --client clinic",
        "keys create clinic --alg RS384 --reason first",
        "keys create clinic --reason first --request-id r1",
        "keys show k1 --json",
        "keys rotate clinic --alg RS384 --reason quarterly --force --yes",
        "keys activate k1 --reason rollback --force --yes",
        "keys deactivate k1 --reason x --force --yes",
        "keys revoke k1 --reason stolen --yes --request-id r1",
        "keys retire k1 --reason x --force --yes",
        "keys destroy k1 --reason x --force --yes",
        "keys adopt clinic --cka-id 00ff --reason x --alg RS384 --hsm softhsm --kid old",
        "keys adopt clinic --label old --reason x",
        "keys confirm k1 --registered --reason x",
        "keys confirm k1 --rehearsed --reason x",
        "keys timeline",
        "keys timeline clinic --json",
        "rotation plan",
        "rotation plan clinic --until 1y --json",
        "rotation rehearse clinic --url https://keys.example/jwks.json --ca ca.pem --dry-run --json",
        "csr clinic",
        "csr clinic --kid k1 --subject CN=a,O=b --san-uri https://a/ --san-uri urn:b --san-dns a.example --out a.csr --json",
        "csr clinic --standby --reason renewal",
        "cert install clinic chain.pem --reason first",
        "cert install clinic chain.pem --kid k1 --reason first --request-id r1 --json",
        "cert self-sign clinic --days 365 --subject CN=a --standby --reason first",
        "cert self-sign clinic --days 365 --kid k1 --force --reason anew",
        "cert show clinic --kid k1 --json",
        "hsm probe /usr/lib/softhsm/libsofthsm2.so --token main --login --pin-source /etc/hallmark/main.pin --config hallmark.toml",
        "doctor",
        "doctor clinic --config hallmark.toml --ca ca.pem --operator operator.toml --live --scope read --json",
        "jwks clinic",
        "profiles list --json",
        "profiles show epic",
        "profiles show epic --markdown",
        "jwks show check",
        "jwks check clinic --ca ca.pem --json",
        "jwks export /srv/keys --client clinic --watch",
        "audit verify /var/lib/hallmark/audit --custody-key keys.pem --expect seen.jsonl --save seen.jsonl --json",
        "audit verify a-00000003.jsonl --partial --config hallmark.toml",
        "audit verify --part part.json --custody-key keys.pem",
        "audit tail /var/lib/hallmark/audit -n 5 -f --client clinic --workload dns:w.example --kind assertion",
        "audit export /var/lib/hallmark/audit --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z --client a --format csv --out a.csv",
        "audit keys --config hallmark.toml --json",
        "inspect",
        "inspect @assertion.txt --profile smart-v2 --client-id a --audience b --audience c --jwks set.json --at 1800000000",
        "inspect - --jwks https://keys.example/jwks.json --ca ca.pem --jwks-url u --certificate c.pem --json",
        "serve --role jwks --config follower.toml",
        "check-config --role jwks --config follower.toml",
    ];
    for line in lines {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    }
}

/// A `kid` is base64url: one in 64 begins with a hyphen.
#[test]
fn a_kid_may_begin_with_a_hyphen() {
    for line in [
        "keys show -cX --json",
        "keys revoke -cX --reason stolen --yes",
        "keys activate --reason rollback --force --yes -cX",
        "keys confirm -cX --registered --reason x",
        "keys adopt clinic --label old --reason x --kid -cX",
        "keys evidence -cX",
        "keys import clinic --pkcs12 a.p12 --config c --hsm h --kid -cX",
        "csr clinic --kid -cX",
        "cert install clinic chain.pem --kid -cX --reason first",
        "cert show clinic --kid -cX",
    ] {
        let parsed = parse(line);
        assert!(parsed.is_ok(), "{line}: {}", parsed.err().map(|e| e.to_string()).unwrap_or_default());
    }
    assert!(parse("keys show -cX --jsonn").is_err(), "a mistyped option is none");
}

#[test]
fn what_misses_a_part_is_wrong_usage() {
    let wrong = [
        "",
        "serve",
        "dev --client clinic",
        "dev --client clinic:RS348",
        "dev --ephemeral --dir x",
        "sign a --lifetime 5",
        "rotation plan --until soon",
        "rotation rehearse",
        "doctor clinic --scope read",
        // Why, always.
        "keys create clinic",
        "keys rotate clinic",
        "keys revoke k1 --yes",
        "keys destroy k1 --yes",
        "keys adopt clinic --label old",
        "keys confirm k1 --registered",
        // Nothing holds a revocation up.
        "keys revoke k1 --reason x --force",
        "cert install clinic chain.pem",
        "cert self-sign clinic --reason x",
        "cert self-sign clinic --reason x --days 0",
        "csr clinic --kid k1 --standby",
        "keys adopt clinic --reason x",
        "keys adopt clinic --reason x --label old --cka-id 00",
        "keys adopt clinic --reason x --cka-id 0",
        "keys confirm k1 --reason x",
        "keys confirm k1 --reason x --registered --rehearsed",
        "profiles",
        "profiles show",
        "profiles show epic --markdown --json",
    ];
    for line in wrong {
        assert!(parse(line).is_err_and(|error| error.use_stderr()), "{line}");
    }
}

#[test]
fn help() {
    insta::assert_snapshot!(Cli::command().term_width(100).render_help());
    for command in ["keys", "rotation", "cert"] {
        let mut cli = Cli::command().term_width(100);
        let command = cli.find_subcommand_mut(command).expect("there is such a command");
        insta::assert_snapshot!(command.render_help());
    }
}

#[test]
fn a_failure_for_people_and_for_programs() {
    let source = std::io::Error::other("disk on fire");
    let failure = Failure::new("can't write the audit log: `/var/log/x`").caused_by(&source);
    let failure = failure.hint("free some space").detail("reason", "AUDIT").with_exit_code(failure::TEMPORARY);
    insta::assert_snapshot!(failure.render(false) + &failure.render(true));
    assert_eq!(failure.exit_code(), 75);
}

/// Every command of the pages, as somebody pastes it.
#[test]
fn what_the_pages_show_can_be_typed() {
    let mut seen = 0;
    for page in std::fs::read_dir("docs/profiles").unwrap().map(|page| page.unwrap().path()) {
        let text = std::fs::read_to_string(&page).unwrap();
        let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
        for line in blocks.flat_map(str::lines).filter(|line| line.starts_with("hallmark ")) {
            seen += 1;
            let typed = Cli::try_parse_from(words(line));
            assert!(typed.is_ok(), "{}: `{line}`: {}", page.display(), typed.err().unwrap());
        }
    }
    assert!(seen > 80, "the pages show {seen} commands");
}

/// What hints say to type has its `--reason TEXT` where the command can't do without.
#[test]
fn what_hints_show_has_its_reason() {
    let (mut seen, mut lacking) = (0, Vec::new());
    for (path, text) in sources("src").into_iter().chain(sources("core/src")) {
        for (at, _) in text.match_indices("hallmark ") {
            let command = text[at..].split(['`', '"', ';', ',', '\n']).next().unwrap_or_default();
            if wants_reason(command) {
                seen += 1;
                if !command.contains("--reason") {
                    lacking.push(format!("{}: {command}", path.display()));
                }
            }
        }
    }
    assert!(lacking.is_empty(), "{lacking:#?}");
    assert!(seen > 10, "the sources show {seen} such commands");
}

/// A command that is named alone, as in "`hallmark keys adopt` takes it in", is not to be typed as it stands.
fn wants_reason(command: &str) -> bool {
    let mut words = command.split_whitespace().skip(1).peekable();
    let mut cli = Cli::command();
    while let Some(next) = words.peek().and_then(|word| cli.find_subcommand(word)).cloned() {
        cli = next;
        words.next();
    }
    let is_argument = |word: &str| word.starts_with('{') || word.chars().all(|char| char.is_ascii_uppercase());
    // `{}{}` is put together elsewhere, with its options.
    let typed = words.next().is_some_and(|word| is_argument(word) && !word.contains("}{"));
    typed && cli.get_arguments().any(|argument| argument.get_id() == "reason" && argument.is_required_set())
}

/// The sources below `folder` without tests and comments, each text of several lines as one.
fn sources(folder: impl AsRef<std::path::Path>) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.file_stem().is_some_and(|name| name == "tests") {
            continue;
        }
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.lines().map(str::trim).filter(|line| !line.starts_with("//"));
            let joined = code.map(|line| line.strip_suffix('\\').map_or(format!("{line}\n"), str::to_owned));
            found.push((path, joined.collect()));
        }
    }
    found
}

/// As a shell splits a line, as far as the pages need it: quotes, and comments at the end.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quote) = (vec![String::new()], None);
    for char in line.chars() {
        match (char, quote) {
            ('\'' | '"', None) => quote = Some(char),
            (_, Some(open)) if char == open => quote = None,
            ('#', None) if words.last().is_some_and(String::is_empty) => break,
            (' ', None) => words.push(String::new()),
            _ => words.last_mut().unwrap().push(char),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}
