//! Rules about what a stage says: commands, directories, pairs, secrets, ports.

use super::{Case, all};

const COMMANDS: &[Case] = &[
    ("FROM busybox\nCMD echo a\n", "", "JSONArgsRecommended 2"),
    (
        "FROM busybox\nENTRYPOINT echo a\n",
        "",
        "JSONArgsRecommended 2",
    ),
    ("FROM busybox\nENTRYPOINT [\"a\"]\nCMD [\"b\"]\n", "", ""),
    (
        "FROM busybox\nSHELL [\"/bin/bash\", \"-c\"]\nCMD echo a\n",
        "",
        "",
    ),
    (
        "FROM busybox\nCMD echo a\nSHELL [\"/bin/bash\", \"-c\"]\n",
        "",
        "JSONArgsRecommended 2",
    ),
    (
        "FROM busybox AS a\nSHELL [\"/bin/bash\", \"-c\"]\nFROM a\nCMD echo a\n",
        "",
        "",
    ),
    (
        "FROM busybox\nCMD ['a', 'b']\n",
        "",
        "JSONArgsRecommended 2",
    ),
    ("FROM busybox\nHEALTHCHECK CMD echo a\n", "", ""),
    (
        "FROM busybox AS a\nONBUILD CMD echo a\nFROM a\nRUN true\n",
        "",
        "JSONArgsRecommended 3",
    ),
    (
        "FROM busybox\ncmd echo a\n",
        "",
        "ConsistentInstructionCasing 2, JSONArgsRecommended 2",
    ),
    (
        "FROM busybox\nCMD echo a \\\n  b\n",
        "",
        "JSONArgsRecommended 2-3",
    ),
    ("FROM busybox\nCMD []\n", "", ""),
    (
        "FROM busybox\nCMD [\"a\"]\nCMD [\"b\"]\n",
        "",
        "MultipleInstructionsDisallowed 2",
    ),
    (
        "FROM busybox\nCMD [\"a\"]\nRUN true\nCMD [\"b\"]\nCMD [\"c\"]\n",
        "",
        "MultipleInstructionsDisallowed 2, MultipleInstructionsDisallowed 4",
    ),
    (
        "FROM busybox\nENTRYPOINT [\"a\"]\nENTRYPOINT [\"b\"]\n",
        "",
        "MultipleInstructionsDisallowed 2",
    ),
    (
        "FROM busybox\nHEALTHCHECK NONE\nHEALTHCHECK CMD [\"b\"]\n",
        "",
        "MultipleInstructionsDisallowed 2",
    ),
    (
        "FROM busybox AS a\nCMD [\"a\"]\nFROM a\nCMD [\"b\"]\n",
        "",
        "",
    ),
    (
        "FROM busybox AS a\nONBUILD CMD [\"a\"]\nFROM a\nCMD [\"b\"]\n",
        "",
        "MultipleInstructionsDisallowed 3",
    ),
    (
        "FROM busybox\ncmd [\"a\"]\nCMD [\"b\"]\nRUN true\nRUN true\n",
        "",
        "ConsistentInstructionCasing 2, MultipleInstructionsDisallowed 2",
    ),
    (
        "FROM busybox\nCMD [\"a\", \\\n \"b\"]\nCMD [\"b\"]\n",
        "",
        "MultipleInstructionsDisallowed 2-3",
    ),
    (
        "FROM busybox\nENTRYPOINT []\nCMD a\n",
        "",
        "JSONArgsRecommended 3",
    ),
    ("FROM busybox\nCMD  [ \"a\" , \"b\" ] \n", "", ""),
    ("FROM busybox\nCMD [\"a\", 1]\n", "", ""),
    (
        "FROM busybox\nCMD []\nENTRYPOINT [\"a\"]\nENTRYPOINT []\n",
        "",
        "MultipleInstructionsDisallowed 3",
    ),
];

const DIRECTORIES: &[Case] = &[
    (
        "FROM busybox\nWORKDIR app\nRUN true\n",
        "",
        "WorkdirRelativePath 2",
    ),
    ("FROM busybox\nWORKDIR /x\nWORKDIR app\n", "", ""),
    (
        "FROM busybox\nWORKDIR a\nWORKDIR b\n",
        "",
        "WorkdirRelativePath 2",
    ),
    ("FROM busybox AS a\nWORKDIR /x\nFROM a\nWORKDIR y\n", "", ""),
    (
        "FROM busybox AS a\nWORKDIR x\nFROM a\nWORKDIR y\n",
        "",
        "WorkdirRelativePath 2",
    ),
    ("FROM busybox\nARG D=/x\nWORKDIR $D\n", "", ""),
    (
        "FROM busybox\nARG D=x\nWORKDIR $D/a\n",
        "",
        "WorkdirRelativePath 3",
    ),
    (
        "FROM busybox AS a\nONBUILD WORKDIR x\nFROM a\nRUN true\n",
        "",
        "WorkdirRelativePath 3",
    ),
    (
        "FROM busybox\nWORKDIR c:\\\\x\n",
        "",
        "WorkdirRelativePath 2",
    ),
    ("FROM busybox\nWORKDIR .\n", "", "WorkdirRelativePath 2"),
    ("FROM busybox\nARG D\nWORKDIR $D/\n", "", ""),
];

const PAIRS: &[Case] = &[
    ("FROM busybox\nENV A b\n", "", "LegacyKeyValueFormat 2"),
    ("FROM busybox\nENV A b c=d\n", "", "LegacyKeyValueFormat 2"),
    ("FROM busybox\nLABEL A b\n", "", "LegacyKeyValueFormat 2"),
    ("FROM busybox\nENV A=b C=d\nLABEL x=y\n", "", ""),
    (
        "FROM busybox AS a\nONBUILD ENV A b\nFROM a\n",
        "",
        "LegacyKeyValueFormat 3",
    ),
    (
        "FROM busybox\nenv A b\n",
        "",
        "ConsistentInstructionCasing 2, LegacyKeyValueFormat 2",
    ),
    (
        "FROM busybox\nENV A b \\\n  c\n",
        "",
        "LegacyKeyValueFormat 2-3",
    ),
    (
        "FROM busybox AS a\nENV A b\nFROM busybox AS b\n",
        "target=b",
        "",
    ),
];

const SECRETS: &[Case] = &[
    ("FROM busybox\nARG API_KEY\n", "", "SecretsUsedInArgOrEnv 2"),
    ("FROM busybox\nARG AUTHOR\n", "", ""),
    ("FROM busybox\nARG KEY\n", "", "SecretsUsedInArgOrEnv 2"),
    ("FROM busybox\nARG KEYFILE\n", "", ""),
    (
        "FROM busybox\nARG KEY_FILE\n",
        "",
        "SecretsUsedInArgOrEnv 2",
    ),
    (
        "FROM busybox\nENV API_KEY=x OTHER=y PASSWORD=z\n",
        "",
        "SecretsUsedInArgOrEnv 2, SecretsUsedInArgOrEnv 2",
    ),
    (
        "FROM busybox\nENV API_KEY x\n",
        "",
        "LegacyKeyValueFormat 2, SecretsUsedInArgOrEnv 2",
    ),
    ("ARG API_KEY=x\nFROM busybox\n", "", ""),
    (
        "ARG API_KEY=x\nFROM busybox\nARG API_KEY\nARG A=1 TOKEN=2\n",
        "",
        "SecretsUsedInArgOrEnv 3, SecretsUsedInArgOrEnv 4",
    ),
    ("FROM busybox\nLABEL api_key=x\n", "", ""),
    (
        "FROM busybox AS a\nONBUILD ARG API_KEY\nFROM a\n",
        "",
        "SecretsUsedInArgOrEnv 3",
    ),
    (
        "FROM busybox\nARG k=API_KEY\nENV $k=1\n",
        "",
        "SecretsUsedInArgOrEnv 3",
    ),
    (
        "FROM busybox AS a\nENV TOKEN=b\nFROM busybox AS b\n",
        "target=b",
        "",
    ),
    (
        "FROM busybox\nARG PASSWORD\n",
        "PASSWORD=x",
        "SecretsUsedInArgOrEnv 2",
    ),
];

const PORTS: &[Case] = &[
    ("FROM busybox\nEXPOSE 80/TCP\n", "", "ExposeProtoCasing 2"),
    (
        "FROM busybox\nEXPOSE 80/tcp 81/Udp 82/SCTP\n",
        "",
        "ExposeProtoCasing 2, ExposeProtoCasing 2",
    ),
    (
        "FROM busybox\nEXPOSE 127.0.0.1:80:80\n",
        "",
        "ExposeInvalidFormat 2",
    ),
    ("FROM busybox\nEXPOSE 80:80\n", "", "ExposeInvalidFormat 2"),
    ("FROM busybox\nEXPOSE 80 81/udp 8000-8010\n", "", ""),
    (
        "FROM busybox\nEXPOSE 127.0.0.1:80:80/TCP\n",
        "",
        "ExposeInvalidFormat 2, ExposeProtoCasing 2",
    ),
    (
        "FROM busybox\nARG P=\"80:80 90/TCP\"\nEXPOSE $P\n",
        "",
        "ExposeInvalidFormat 3, ExposeProtoCasing 3",
    ),
    (
        "FROM busybox\nEXPOSE 127.0.0.1::80\n",
        "",
        "ExposeInvalidFormat 2",
    ),
    ("FROM busybox\nEXPOSE :80\n", "", ""),
    ("FROM busybox\nEXPOSE abc\n", "", ""),
    (
        "FROM busybox\nEXPOSE 1.2.3:80:80\n",
        "",
        "ExposeInvalidFormat 2",
    ),
    (
        "FROM busybox\nEXPOSE [::1]:80:80\n",
        "",
        "ExposeInvalidFormat 2",
    ),
    (
        "FROM busybox\nEXPOSE ::1:80:80\n",
        "",
        "ExposeInvalidFormat 2",
    ),
    (
        "FROM busybox\nEXPOSE 8000-8001:9000-9001\n",
        "",
        "ExposeInvalidFormat 2",
    ),
    (
        "FROM busybox\nEXPOSE 8000-8002:9000-9001\n",
        "",
        "ExposeInvalidFormat 2",
    ),
    (
        "FROM busybox\nEXPOSE 8000-8002:9000\n",
        "",
        "ExposeInvalidFormat 2",
    ),
    ("FROM busybox\nEXPOSE x:80\n", "", "ExposeInvalidFormat 2"),
    ("FROM busybox\nEXPOSE 80/icmp\n", "", ""),
    ("FROM busybox\nEXPOSE 80/\n", "", ""),
    ("FROM busybox\nEXPOSE 0 00080\n", "", ""),
];

const PLACES: &[Case] = &[
    (
        "FROM busybox\nENV A b \\\n# c\n  c\nCMD a\n",
        "",
        "LegacyKeyValueFormat 2-4, JSONArgsRecommended 5",
    ),
    (
        "FROM busybox\nENV A b \\\n# c\n",
        "",
        "LegacyKeyValueFormat 2-3",
    ),
    (
        "FROM busybox\nCOPY <<A <<B /x$y/\na\nA\nb\nB\nCMD a\n",
        "",
        "UndefinedVar 2-6, JSONArgsRecommended 7",
    ),
    (
        "FROM busybox\r\nENV A b \\\r\n  c\r\nCMD a\r\n",
        "",
        "LegacyKeyValueFormat 2-3, JSONArgsRecommended 4",
    ),
    (
        "# escape=`\nFROM busybox\nENV A b `\n  c\nCMD a\n",
        "",
        "LegacyKeyValueFormat 3-4, JSONArgsRecommended 5",
    ),
    ("\n\n\nFROM busybox\n\nCMD a\n", "", "JSONArgsRecommended 6"),
    (
        "FROM busybox AS a\nENV A b\nFROM busybox AS a\nCMD a\n",
        "target=a",
        "DuplicateStageName 3, JSONArgsRecommended 4",
    ),
    (
        "FROM busybox AS a\nONBUILD ENV A b\nONBUILD CMD x\nFROM a AS b\nFROM b AS c\nCMD y\n",
        "",
        "JSONArgsRecommended 4, LegacyKeyValueFormat 4, JSONArgsRecommended 6",
    ),
];

#[test]
fn commands_are_arrays_and_come_once() {
    all(COMMANDS);
}

#[test]
fn the_first_directory_of_a_file_is_absolute() {
    all(DIRECTORIES);
}

#[test]
fn pairs_have_equals_signs() {
    all(PAIRS);
}

#[test]
fn names_of_secrets_are_no_arguments_or_variables() {
    all(SECRETS);
}

#[test]
fn findings_have_the_lines_of_their_instructions() {
    all(PLACES);
}

#[test]
fn ports_stand_alone() {
    all(PORTS);
}
