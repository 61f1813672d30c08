//! What `--check` says of each rule that needs nothing but the Dockerfile.

use super::{golden, kiln};

/// A test for each rule: its name, and a Dockerfile that breaks it.
macro_rules! rules {
    ($($name:ident: $rule:literal $dockerfile:literal,)*) => {
        $(
            #[test]
            fn $name() {
                check($rule, $dockerfile);
            }
        )*
    };
}

rules! {
    stage_name_casing: "StageNameCasing" "FROM scratch AS Web\n",
    from_as_casing: "FromAsCasing" "FROM scratch as web\n",
    no_empty_continuation: "NoEmptyContinuation" "FROM scratch\nENV a=1 \\\n\n  b=2\n",
    consistent_instruction_casing: "ConsistentInstructionCasing" "FROM scratch\nenv a=1\nENV b=2\n",
    duplicate_stage_name: "DuplicateStageName" "FROM scratch AS web\nFROM scratch AS web\n",
    reserved_stage_name: "ReservedStageName" "FROM scratch AS context\n",
    json_args_recommended: "JSONArgsRecommended" "FROM scratch\nCMD serve --port 80\n",
    maintainer_deprecated: "MaintainerDeprecated" "FROM scratch\nMAINTAINER a@example.com\n",
    workdir_relative_path: "WorkdirRelativePath" "FROM scratch\nWORKDIR app\n",
    undefined_var: "UndefinedVar" "FROM scratch\nENV VERSION=1\nENV a=$VERSOIN\n",
    multiple_instructions_disallowed: "MultipleInstructionsDisallowed" "FROM scratch\nCMD [\"a\"]\nCMD [\"b\"]\n",
    legacy_key_value_format: "LegacyKeyValueFormat" "FROM scratch\nENV a b\n",
    secrets_used_in_arg_or_env: "SecretsUsedInArgOrEnv" "FROM scratch\nENV API_TOKEN=x\n",
    expose_proto_casing: "ExposeProtoCasing" "FROM scratch\nEXPOSE 80/TCP\n",
    expose_invalid_format: "ExposeInvalidFormat" "FROM scratch\nEXPOSE 127.0.0.1:80:80\n",
    copy_ignored_file: "CopyIgnoredFile" "# check=experimental=CopyIgnoredFile\nFROM scratch\nCOPY notes.txt /\n",
}

fn check(rule: &str, dockerfile: &str) {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    std::fs::write(dir.join("Dockerfile"), dockerfile).unwrap();
    std::fs::write(dir.join(".dockerignore"), "*.txt\n").unwrap();
    std::fs::write(dir.join("notes.txt"), "").unwrap();
    let output = kiln(dir).args(["build", "--check", "."]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let text = format!(
        "{dockerfile}---\n{}{}",
        text(output.stdout),
        text(output.stderr)
    );
    assert!(text.contains(&format!("warning[{rule}]")), "{text}");
    kiln_testkit::golden::check(&golden(&format!("checks/{rule}.txt")), &text);
}
