use super::*;

fn asked(arguments: &[&str]) -> ExplainArgs {
    use clap::Parser;
    #[derive(Debug, clap::Parser)]
    struct Typed {
        #[command(flatten)]
        args: ExplainArgs,
    }
    Typed::try_parse_from(std::iter::once(&"explain").chain(arguments)).unwrap().args
}

const ADVANCED: &str = "hsm-config/advanced.toml";

fn advanced() -> Config {
    read(ADVANCED.as_ref()).unwrap()
}

fn whole(output: Output) -> String {
    let text = format!("{}--- stderr\n{}", output.stdout, output.stderr);
    quoting_lines(&text.replace(env!("CARGO_MANIFEST_DIR"), "/repo"), &format!("{ADVANCED}:"))
}

/// The text with what stands in each line of the sample in place of its number, which changes with every other edit of it.
fn quoting_lines(text: &str, before: &str) -> String {
    let sample = std::fs::read_to_string(ADVANCED).unwrap();
    let mut parts = text.split(before);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |shown, part| {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let number: usize = part[..digits].parse().unwrap();
        format!("{shown}{before}<{}>{}", sample.lines().nth(number - 1).unwrap(), &part[digits..])
    })
}

#[test]
fn an_answer_names_its_line() {
    let config = advanced();
    let ask = |arguments: &[&str]| whole(answer_as_text(&shown(config.explain(&question(&asked(arguments)).unwrap()))));
    let workload = config.workloads[0].id.to_string();
    let client = config.workloads[0].clients[0].to_string();
    insta::assert_snapshot!(
        ask(&["--workload", &workload, "--client", &client])
            + &ask(&["--workload", &workload, "--client", "no-such"])
            + &ask(&["--workload", "dns:stranger.example", "--client", &client])
            + &ask(&["--operator", &config.operators[0].0.to_string(), "--act", "destroy", "--force"])
    );
}

#[test]
fn for_programs() {
    let config = advanced();
    let workload = config.workloads[0].id.to_string();
    let args = asked(&["--workload", &workload, "--client", "no-such"]);
    let answer = format!("{:#}", answer_as_json(&shown(config.explain(&question(&args).unwrap()))));
    insta::assert_snapshot!(quoting_lines(&answer, "\"line\": "));
}

#[test]
fn findings_say_where() {
    let mut config = advanced();
    config.workloads.clear();
    let findings: Vec<_> = config.lint().into_iter().map(Found::from).collect();
    insta::assert_snapshot!(whole(findings_as_text(&findings)));
    assert_eq!(findings_as_json(&[], false)["ok"], true);
}

#[test]
fn a_question_is_of_one_kind_and_well_formed() {
    assert!(question(&asked(&["--workload", "billing", "--client", "a"])).is_err());
    let unknown = question(&asked(&["--operator", "uid:1", "--act", "dance"])).unwrap_err();
    assert!(unknown.contains("list-keys"), "{unknown}");
}
