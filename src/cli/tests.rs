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
        "jwks clinic",
        "jwks show check",
        "jwks check clinic --ca ca.pem --json",
        "jwks export /srv/keys --client clinic --watch",
        "serve --role jwks --config follower.toml",
        "check-config --role jwks --config follower.toml",
    ];
    for line in lines {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    }
    for line in
        ["", "serve", "dev --client clinic", "dev --ephemeral --dir x", "keys create clinic", "sign a --lifetime 5"]
    {
        assert!(parse(line).is_err_and(|error| error.use_stderr()), "{line}");
    }
}

#[test]
fn help() {
    insta::assert_snapshot!(Cli::command().term_width(100).render_help());
}

#[test]
fn a_failure_for_people_and_for_programs() {
    let source = std::io::Error::other("disk on fire");
    let failure = Failure::new("can't write the audit log: `/var/log/x`").caused_by(&source);
    let failure = failure.hint("free some space").detail("reason", "AUDIT").with_exit_code(failure::TEMPORARY);
    insta::assert_snapshot!(failure.render(false) + &failure.render(true));
    assert_eq!(failure.exit_code(), 75);
}
