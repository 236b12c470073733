use clap::error::ErrorKind;

use super::*;

fn parse_words(words: &[&str]) -> Result<Cli, clap::Error> {
    parse(std::iter::once("auditlog").chain(words.iter().copied()).map(Into::into))
}

#[test]
fn no_command_means_serve_with_its_flags() {
    let cli = parse_words(&["--listen", "127.0.0.1:1", "--config", "a.toml"]).unwrap();
    assert!(cli.command.is_none());
    let cli = parse_words(&["serve", "--listen", "127.0.0.1:1", "--limits-notes=7"]).unwrap();
    assert!(matches!(cli.command, Some(Command::Serve(_))));
    assert!(parse_words(&[]).unwrap().command.is_none());
}

#[test]
fn says_which_flag_is_unknown() {
    let error = parse_words(&["--lisen", "x"]).unwrap_err();
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::UnknownArgument, 2));
    assert!(error.to_string().contains("'--lisen'"), "{error}");
    assert!(parse_words(&["migrate", "--listen", "127.0.0.1:1"]).is_err());
    assert!(parse_words(&["--listen", "127.0.0.1:1", "migrate"]).is_err());
}

#[test]
fn help_names_the_variables_and_defaults_and_ends_well() {
    for words in [&["--help"][..], &["serve", "--help"], &["help", "serve"]] {
        let help = parse_words(words).unwrap_err();
        assert_eq!((help.kind(), help.exit_code()), (ErrorKind::DisplayHelp, 0));
        let help = help.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        for text in
            ["[default: 8] [env: AUDITLOG_DATABASE_POOL_SIZE]", "[env: AUDITLOG_CONFIG]", "AUDITLOG_LIMITS_NOTES"]
        {
            assert!(help.contains(text), "{text}: {help}");
        }
    }
}

#[test]
fn clap_finds_nothing_wrong_with_the_command_line() {
    name_variables(Cli::command()).debug_assert();
}

#[test]
fn settings_without_effect_are_not_offered() {
    for (name, settings) in UNUSED {
        let help = parse_words(&[name, "--help"]).unwrap_err().to_string();
        for setting in settings {
            assert!(!help.contains(&format!("--{}", setting.replace(['.', '_'], "-"))), "{name}: {setting}");
        }
    }
}
