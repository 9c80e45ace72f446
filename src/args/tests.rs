//! Every row of the tables in `wamp-and-rpc.md` section 7.

use super::*;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

fn outcome(args: &[&str]) -> Outcome {
    parse(std::iter::once("reagent").chain(args.iter().copied()).map(str::to_owned))
}

fn run(args: &[&str]) -> Options {
    match outcome(args) {
        Outcome::Run(options) => *options,
        other => panic!("{args:?} does not run: {other:?}"),
    }
}

fn printed(args: &[&str]) -> (String, String, u8) {
    match outcome(args) {
        Outcome::Print { stdout, stderr, code } => (stdout, stderr, code),
        other => panic!("{args:?} prints nothing: {other:?}"),
    }
}

const MISSING: &str = "'-config' argument is required. -help for usage\n";

#[test]
fn the_table_is_sorted_and_complete() {
    assert_eq!(FLAGS.len(), 21);
    assert!(FLAGS.is_sorted_by(|a, b| a.name < b.name));
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let options = run(&["-config", "F"]);
    let expected = Options {
        agent_dir: "/opt/reagent".into(),
        apps_dir: "/opt/reagent/apps".into(),
        compressed_build_extension: "tgz".into(),
        config: "F".into(),
        connect_timeout: Some(Duration::from_millis(1250)),
        database: "/opt/reagent/reagent.db".into(),
        debug: true,
        debug_messaging: false,
        env: None,
        log_file: "/var/log/reagent.log".into(),
        network_manager: true,
        offline: false,
        ping_interval: None,
        pretty_logging: false,
        profiling: None,
        remote_update_url: "https://storage.googleapis.com".into(),
        reply_timeout: Duration::from_millis(5000),
        update: true,
        given: BTreeSet::from(["config"]),
        warnings: vec![],
    };
    assert_eq!(options, expected);
}

#[test]
fn one_or_two_dashes_and_both_ways_of_giving_a_value_are_the_same() {
    for args in [&["-config=F"][..], &["--config=F"], &["-config", "F"], &["--config", "F"]] {
        assert_eq!(run(args), run(&["-config", "F"]), "{args:?}");
    }
    assert_eq!(run(&["-config=a=b"]).config, Path::new("a=b"));
    assert_eq!(run(&["-config", "-debug"]).config, Path::new("-debug"), "a value may look like a flag");
}

#[test]
fn a_switch_takes_every_documented_value() {
    for on in ["1", "t", "T", "true", "TRUE", "True"] {
        assert!(run(&[&format!("-offline={on}"), "-config=F"]).offline, "{on}");
    }
    for off in ["0", "f", "F", "false", "FALSE", "False"] {
        assert!(!run(&[&format!("--debug={off}"), "-config=F"]).debug, "{off}");
    }
    assert!(run(&["-offline", "-config=F"]).offline);
}

#[test]
fn the_last_of_repeated_flags_wins() {
    let options = run(&["-config=A", "-debug", "-debug=false", "-config", "B"]);
    assert_eq!((options.config.as_path(), options.debug), (Path::new("B"), false));
}

#[test]
fn parsing_stops_at_the_first_word_and_says_what_it_ignored() {
    let (stdout, stderr, code) = printed(&["-debug", "false", "-config", "x"]);
    assert_eq!((stdout.as_str(), code), (MISSING, 0));
    assert_eq!(stderr, "warning: ignored arguments: false -config x\n");
    for stop in [&["-", "-offline"][..], &["word", "-offline"]] {
        let options = run(&[&["-config=F"][..], stop].concat());
        assert!(!options.offline);
        assert_eq!(options.warnings, [format!("warning: ignored arguments: {}", stop.join(" "))]);
    }
    let options = run(&["-config=F", "--", "-offline"]);
    assert!(!options.offline);
    assert_eq!(options.warnings, ["warning: ignored arguments: -offline"]);
    assert_eq!(run(&["-config=F", "--"]).warnings, Vec::<String>::new());
}

#[test]
fn names_are_case_sensitive() {
    assert_eq!(printed(&["-Config=F"]).1.lines().next(), Some("flag provided but not defined: -Config"));
}

#[test]
fn numbers_are_read_in_every_form() {
    for (text, number) in [
        ("0", 0),
        ("7", 7),
        ("0x1F", 31),
        ("0X1f", 31),
        ("0o17", 15),
        ("0b101", 5),
        ("017", 15),
        ("1_000", 1000),
        ("0x_ff", 255),
        ("0_7", 7),
        ("18446744073709551615", u64::MAX),
    ] {
        assert_eq!(parse_flags(&[format!("-connTimeout={text}")]).unwrap().number("connTimeout"), number, "{text}");
    }
}

#[test]
fn every_syntax_error_has_its_text_and_ends_with_code_2() {
    for (args, first_line) in [
        (&["-foo"][..], "flag provided but not defined: -foo"),
        (&["--foo=1"], "flag provided but not defined: -foo"),
        (&["-config"], "flag needs an argument: -config"),
        (&["-connTimeout=abc"], "invalid value \"abc\" for flag -connTimeout: parse error"),
        (&["-connTimeout=-1"], "invalid value \"-1\" for flag -connTimeout: parse error"),
        (&["-connTimeout", "-1"], "invalid value \"-1\" for flag -connTimeout: parse error"),
        (&["-connTimeout=+1"], "invalid value \"+1\" for flag -connTimeout: parse error"),
        (&["-connTimeout="], "invalid value \"\" for flag -connTimeout: parse error"),
        (&["-connTimeout=08"], "invalid value \"08\" for flag -connTimeout: parse error"),
        (&["-connTimeout=0x"], "invalid value \"0x\" for flag -connTimeout: parse error"),
        (&["-connTimeout=1__0"], "invalid value \"1__0\" for flag -connTimeout: parse error"),
        (&["-connTimeout=_1"], "invalid value \"_1\" for flag -connTimeout: parse error"),
        (&["-connTimeout=1_"], "invalid value \"1_\" for flag -connTimeout: parse error"),
        (&["-connTimeout=0b2"], "invalid value \"0b2\" for flag -connTimeout: parse error"),
        (
            &["-connTimeout=99999999999999999999"],
            "invalid value \"99999999999999999999\" for flag -connTimeout: value out of range",
        ),
        (&["-debug=maybe"], "invalid boolean value \"maybe\" for -debug: parse error"),
        (&["-debug="], "invalid boolean value \"\" for -debug: parse error"),
        (&["---x"], "bad flag syntax: ---x"),
        (&["-=x"], "bad flag syntax: -=x"),
        (&["--=x"], "bad flag syntax: --=x"),
    ] {
        let (stdout, stderr, code) = printed(args);
        assert_eq!((stdout.as_str(), code), ("", 2), "{args:?}");
        assert_eq!(stderr, format!("{first_line}\n{}", usage("reagent")), "{args:?}");
    }
}

#[test]
fn help_prints_the_usage_on_stderr_and_ends_well() {
    for flag in ["-h", "-help", "--help", "--h"] {
        assert_eq!(printed(&[flag]), (String::new(), usage("reagent"), 0), "{flag}");
    }
    assert_eq!(printed(&["-config=F", "-help"]).2, 0);
}

#[test]
fn the_usage_text_has_two_lines_per_flag() {
    let text = usage("/opt/reagent/Reagent-active");
    assert!(text.starts_with(
        "Usage of /opt/reagent/Reagent-active:\n  -agentDir string\n    \tdirectory of the agent: binaries, tunnel client, \
         database and downloads (default \"/opt/reagent\")\n"
    ));
    assert_eq!(text.lines().count(), 1 + 2 * FLAGS.len());
    for line in
        ["  -arch", "  -config string", "  -connTimeout uint", "    \tlook for a newer agent at start (default true)"]
    {
        assert!(text.lines().any(|found| found == line), "{line:?} is missing in {text}");
    }
    for (name, default) in [("offline", "false"), ("ppTimeout", "0"), ("config", "\"\"")] {
        assert!(!text.contains(&format!("(default {default})")), "-{name} shows its empty default");
    }
}

#[test]
fn version_and_architecture_are_printed_alone() {
    let version = format!("{}\n", release::VERSION);
    let arch = format!("{}\n", release::ARCH);
    for (args, text) in [
        (&["-version"][..], &version),
        (&["--version"], &version),
        (&["-arch"], &arch),
        (&["-arch", "-version"], &version),
        (&["-config=/none/x.flock", "-version"], &version),
        (&["-config=/none/x.flock", "-arch"], &arch),
    ] {
        assert_eq!(printed(args), (text.clone(), String::new(), 0), "{args:?}");
    }
    assert!(matches!(outcome(&["-version=false", "-config=F"]), Outcome::Run(_)));
}

#[test]
fn a_missing_config_is_named_with_code_0() {
    for args in [&[][..], &["-debug"], &["-config="]] {
        assert_eq!(printed(args), (MISSING.to_owned(), String::new(), 0), "{args:?}");
    }
    assert_eq!(printed(&["word", "-config", "F"]).0, MISSING);
}

#[test]
fn command_lines_in_use_keep_working() {
    let options = run(&["-config", "/opt/reagent/device-config.flock", "-appsDir", "/apps", "-debug"]);
    assert_eq!((options.apps_dir.as_path(), options.debug), (Path::new("/apps"), true));
    let options = run(&[
        "-dbFileName=P",
        "-agentDir=D",
        "-appsDir=A",
        "-config",
        "F",
        "-logFile=L",
        "-update=false",
        "-prettyLogging",
    ]);
    assert_eq!(options.database, Path::new("D/P"));
    assert_eq!((options.log_file.as_path(), options.update, options.pretty_logging), (Path::new("L"), false, true));
    let options = run(&["-config", "F", "-prettyLogging", "-env=local", "-nmw=false"]);
    assert_eq!((options.env.as_deref(), options.network_manager), (Some("local"), false));
}

#[test]
fn a_bare_database_name_lies_in_the_agents_directory() {
    for (args, path) in [
        (&["-agentDir=/a"][..], "/a/reagent.db"),
        (&["-agentDir=/a", "-dbFileName=x.db"], "/a/x.db"),
        (&["-agentDir=/a", "-dbFileName=./x.db"], "./x.db"),
        (&["-agentDir=/a", "-dbFileName=/b/x.db"], "/b/x.db"),
        (&["-agentDir=/a", "-dbFileName="], "/a/reagent.db"),
    ] {
        assert_eq!(run(&[args, &["-config=F"]].concat()).database, Path::new(path), "{args:?}");
    }
    assert_eq!(run(&["-agentDir=/a", "-config=F"]).apps_dir, Path::new("/opt/reagent/apps"), "does not follow");
}

#[test]
fn zero_has_the_documented_meaning() {
    let options =
        run(&["-connTimeout=0", "-respTimeout=0", "-ppTimeout=0", "-profiling", "-profilingPort=0", "-config=F"]);
    assert_eq!(options.connect_timeout, None);
    assert_eq!(options.reply_timeout, Duration::from_millis(5000));
    assert_eq!(options.ping_interval, None);
    assert_eq!(options.profiling, Some(80));
    let options = run(&["-profiling", "-profilingPort=70000", "-config=F"]);
    assert_eq!((options.profiling, options.warnings.len()), (Some(80), 1));
}

#[test]
fn only_an_explicit_env_counts() {
    assert_eq!(run(&["-config=F"]).env, None);
    assert_eq!(run(&["-config=F", "-env=production"]).env.as_deref(), Some("production"));
}

#[test]
fn reserved_words_count_in_first_place_only() {
    let (stdout, stderr, code) = printed(&["service", "install"]);
    assert_eq!((stdout.as_str(), code), ("", 1));
    assert!(stderr.contains("only supported on Windows"));
    for word in ["status", "apps", "logs", "check", "bundle", "version", "help"] {
        assert_eq!(printed(&[word]), (String::new(), format!("'{word}' is not built in yet\n"), 1));
        assert!(matches!(outcome(&["-config=F", word]), Outcome::Run(_)), "{word}");
    }
    assert!(matches!(outcome(&["-config=F", "service"]), Outcome::Run(_)));
    assert_eq!(printed(&["Status"]).0, MISSING, "exact lower-case words only");
}
