//! The directive, and what counts under it.

use super::{Case, CheckOptions, Findings, Rule, all, check, check_text, token};

const DIRECTIVES: &[Case] = &[
    (
        "# check=skip=JSONArgsRecommended\nFROM busybox\nCMD a\nENV A b\n",
        "",
        "LegacyKeyValueFormat 4",
    ),
    (
        "# check=skip=JSONArgsRecommended,LegacyKeyValueFormat\nFROM busybox\nCMD a\nENV A b\n",
        "",
        "",
    ),
    ("# check=skip=all\nFROM busybox\nCMD a\nENV A b\n", "", ""),
    (
        "# check=skip=ALL\nFROM busybox\nCMD a\n",
        "",
        "JSONArgsRecommended 3",
    ),
    (
        "# check=skip=jsonargsrecommended\nFROM busybox\nCMD a\n",
        "",
        "JSONArgsRecommended 3",
    ),
    (
        "# check=error=true\nFROM busybox\nCMD a\nENV A b\n",
        "",
        "JSONArgsRecommended 3, LegacyKeyValueFormat 4",
    ),
    ("# check=error=true\nFROM busybox\nCMD [\"a\"]\n", "", ""),
    (
        "# check=skip=JSONArgsRecommended;error=true\nFROM busybox\nCMD a\nENV A=b\n",
        "",
        "",
    ),
    (
        "# check=skip=JSONArgsRecommended;error=true\nFROM busybox\nCMD a\nENV A b\n",
        "",
        "LegacyKeyValueFormat 4",
    ),
    (
        "# check=error=1\nFROM busybox\nCMD a\n",
        "",
        "JSONArgsRecommended 3",
    ),
    (
        "# check=error=T\nFROM busybox\nCMD a\n",
        "",
        "JSONArgsRecommended 3",
    ),
    ("# check=error=yes\nFROM busybox\nCMD a\n", "", ""),
    ("# check=foo=bar\nFROM busybox\nCMD a\n", "", ""),
    ("# check=skip\nFROM busybox\nCMD a\n", "", ""),
    (
        "# check=skip=JSONArgsRecommended;\nFROM busybox\nCMD a\n",
        "",
        "",
    ),
    (
        "# check=skip=JSONArgsRecommended;skip=LegacyKeyValueFormat\nFROM busybox\nCMD a\nENV A b\n",
        "",
        "JSONArgsRecommended 3",
    ),
    (
        "# comment\n# check=skip=all\nFROM busybox\nCMD a\n",
        "",
        "JSONArgsRecommended 4",
    ),
    (
        "# check=skip=Nonsense\nFROM busybox\nCMD a\n",
        "",
        "JSONArgsRecommended 3",
    ),
    ("# CHECK=skip=all\nFROM busybox\nCMD a\n", "", ""),
    (
        "# check=\nFROM busybox\nCMD a\n",
        "",
        "JSONArgsRecommended 3",
    ),
];

#[test]
fn directives_choose_rules() {
    all(DIRECTIVES);
}

#[test]
fn only_rules_that_count_make_a_file_fail() {
    let token = token();
    for (options, want) in [
        ("", &[Rule::LegacyKeyValueFormat][..]),
        ("error=true", &[Rule::LegacyKeyValueFormat]),
        ("skip=LegacyKeyValueFormat", &[]),
        ("skip=all", &[]),
        (
            "experimental=KilnSecretValue",
            &[Rule::LegacyKeyValueFormat, Rule::KilnSecretValue],
        ),
        (
            "skip=KilnSecretValue;experimental=all",
            &[Rule::LegacyKeyValueFormat],
        ),
    ] {
        let text = format!("FROM busybox\nENV A b\nLABEL X y\nENV Z={token}\n");
        let parsed = kiln_parser::parse(&text);
        let findings = Findings::new(CheckOptions::parse(options).unwrap(), None);
        check_text(&parsed, &findings);
        let (found, _) = check(&text, "", Some(options), None);
        for finding in found {
            findings.add(finding);
        }
        assert_eq!(findings.broken(), want, "{options}");
    }
}

#[test]
fn values_of_secrets_are_confidential_and_names_are_not() {
    let text = format!("FROM busybox\nENV TOKEN={}\n", token());
    let (found, _) = check(&text, "", None, None);
    let found: Vec<_> = found.iter().map(|f| (f.rule, f.confidential)).collect();
    assert_eq!(
        found,
        [
            (Rule::SecretsUsedInArgOrEnv, false),
            (Rule::KilnSecretValue, true)
        ]
    );
}
