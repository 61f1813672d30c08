//! Rules about the text alone.

use super::{Case, all};

const NAMES_AND_CASE: &[Case] = &[
    ("FROM busybox AS build\nRUN true\n", "", ""),
    ("FROM busybox AS Build\nRUN true\n", "", "StageNameCasing 1"),
    (
        "FROM busybox AS Build\nFROM Build AS b\nFROM build AS c\n",
        "",
        "StageNameCasing 1, InvalidDefaultArgInFrom 2",
    ),
    (
        "FROM busybox AS BuilD\nFROM scratch\nCOPY --from=BuilD /bin/sh /sh\n",
        "",
        "StageNameCasing 1",
    ),
    (
        "FROM busybox \\\n  AS Build\nRUN true\n",
        "",
        "StageNameCasing 1-2",
    ),
    ("from busybox as b\nrun true\n", "", ""),
    ("FROM busybox as b\nRUN true\n", "", "FromAsCasing 1"),
    ("from busybox AS b\nrun true\n", "", "FromAsCasing 1"),
    ("FROM busybox As b\nRUN true\n", "", "FromAsCasing 1"),
    ("from busybox aS b\nrun true\n", "", "FromAsCasing 1"),
    (
        "From busybox as b\nRUN true\n",
        "",
        "ConsistentInstructionCasing 1",
    ),
    (
        "FROM busybox\nrun true\nRUN true\n",
        "",
        "ConsistentInstructionCasing 2",
    ),
    (
        "from busybox\nrun true\nRUN true\n",
        "",
        "ConsistentInstructionCasing 3",
    ),
    (
        "FROM busybox\nrun true\n",
        "",
        "ConsistentInstructionCasing 2",
    ),
    (
        "FROM busybox\nRun true\n",
        "",
        "ConsistentInstructionCasing 2",
    ),
    (
        "from busybox\nRun true\nrun true\n",
        "",
        "ConsistentInstructionCasing 2",
    ),
    (
        "arg X=1\narg Y=1\narg Z=1\nFROM busybox\nRUN true\n",
        "",
        "",
    ),
    (
        "FROM busybox\nONBUILD run true\nonbuild RUN true\nRUN true\n",
        "",
        "ConsistentInstructionCasing 3",
    ),
    (
        "From busybox\nRUN true\n",
        "",
        "ConsistentInstructionCasing 1",
    ),
    (
        "FROM busybox AS a\nrun true\nrun true\nrun true\nFROM busybox\nRUN true\n",
        "",
        "ConsistentInstructionCasing 2, ConsistentInstructionCasing 3, ConsistentInstructionCasing 4",
    ),
    (
        "FROM busybox\nRUN true\nrun true && \\\n  false\n",
        "",
        "ConsistentInstructionCasing 3-4",
    ),
    (
        "FROM busybox AS a\nFROM busybox AS a\n",
        "",
        "DuplicateStageName 2",
    ),
    (
        "FROM busybox AS a\nFROM busybox AS A\nFROM busybox AS a\n",
        "",
        "DuplicateStageName 2, StageNameCasing 2, DuplicateStageName 3",
    ),
    ("FROM busybox AS a\nFROM busybox AS b\n", "", ""),
    (
        "FROM busybox AS scratch\nRUN true\n",
        "",
        "ReservedStageName 1",
    ),
    (
        "FROM busybox AS context\nRUN true\n",
        "",
        "ReservedStageName 1",
    ),
    (
        "FROM busybox AS Scratch\nFROM busybox AS context2\n",
        "",
        "ReservedStageName 1, StageNameCasing 1",
    ),
    (
        "FROM busybox\nMAINTAINER me\n",
        "",
        "MaintainerDeprecated 2",
    ),
    (
        "FROM busybox\nONBUILD LABEL a=b\nMAINTAINER me <m@x>\n",
        "",
        "MaintainerDeprecated 3",
    ),
    (
        "FROM busybox AS a\nMAINTAINER me\nFROM busybox AS b\n",
        "target=b",
        "MaintainerDeprecated 2",
    ),
    (
        "FROM busybox\nHealthCheck NONE\nexpose 80\nUSER a\nUSER b\n",
        "",
        "ConsistentInstructionCasing 2, ConsistentInstructionCasing 3",
    ),
    (
        "FROM busybox AS Context\n",
        "",
        "ReservedStageName 1, StageNameCasing 1",
    ),
];

const CONTINUATIONS: &[Case] = &[
    (
        "FROM busybox\nRUN echo a \\\n\n  b\nRUN true\n",
        "",
        "NoEmptyContinuation 4",
    ),
    (
        "FROM busybox\nRUN echo a \\\n\n\n  b\nRUN echo c \\\n \n d\n",
        "",
        "NoEmptyContinuation 5, NoEmptyContinuation 8",
    ),
    ("FROM busybox\nRUN echo a \\\n# c\n  b\n", "", ""),
    (
        "FROM busybox\nRUN echo a \\\n# c\n\n  b \\\n  c\n",
        "",
        "NoEmptyContinuation 6",
    ),
    (
        "FROM busybox\nRUN echo a \\\n\n",
        "",
        "NoEmptyContinuation 3",
    ),
    ("FROM busybox\nRUN echo a \\\n", "", ""),
    ("FROM busybox\nRUN <<EOF\necho a \\\n\n b\nEOF\n", "", ""),
    (
        "FROM busybox\nRUN a; \\\n  b; \\\n  c; \\\n\n  d; \\\n  e\n",
        "",
        "NoEmptyContinuation 7",
    ),
];

const DESCRIPTIONS: &[Case] = &[
    (
        "# check=experimental=all\n# bar this\nFROM busybox AS foo\n",
        "",
        "InvalidDefinitionDescription 3",
    ),
    (
        "# check=experimental=all\n\n# foo this\nFROM busybox AS foo\n",
        "",
        "",
    ),
    (
        "# check=experimental=all\n\n# foo this\nFROM busybox\n",
        "",
        "",
    ),
    ("# check=experimental=all\nFROM busybox AS foo\n", "", ""),
    (
        "# check=experimental=all\n\nFROM busybox\n# bar this\nARG foo=1\n",
        "",
        "InvalidDefinitionDescription 5",
    ),
    (
        "# check=experimental=all\n\nFROM busybox\n# foo this\nARG foo=1\n",
        "",
        "",
    ),
    (
        "# check=experimental=all\n\n# bar this\nARG foo=1\nFROM busybox\n",
        "",
        "InvalidDefinitionDescription 4",
    ),
    (
        "# check=experimental=all\n\nFROM busybox\n# bar this\nARG foo=1 baz=2\n# baz x\nARG foo=1 baz=2\n",
        "",
        "InvalidDefinitionDescription 5",
    ),
    (
        "# check=experimental=all\n\nFROM busybox\n# foo this\n# more\nARG foo=1\n# more\n# bar this\nARG bar=1\n",
        "",
        "InvalidDefinitionDescription 6",
    ),
    (
        "# check=experimental=all\n\nFROM busybox\n# foo\nARG foo=1\n",
        "",
        "",
    ),
    (
        "# check=experimental=all\n\nFROM busybox\n# foo: this\nARG foo=1\n",
        "",
        "InvalidDefinitionDescription 5",
    ),
    (
        "# check=experimental=all\n\n# Foo this\nFROM busybox AS Foo\n# FOO x\nARG foo\n",
        "",
        "InvalidDefinitionDescription 4, StageNameCasing 4, InvalidDefinitionDescription 6",
    ),
    (
        "# check=experimental=all\n\nFROM busybox\n#\nARG foo=1\n",
        "",
        "",
    ),
    (
        "# check=experimental=all\n\nFROM busybox\n#foo this\nARG foo=1\n",
        "",
        "",
    ),
    (
        "# check=experimental=all\n\nFROM busybox\n# x this\nRUN true\n# y this\nENV A=b\n",
        "",
        "",
    ),
    (
        "# check=experimental=all\n\nFROM busybox\n#  foo this\nARG foo=1\n# foo  this\nARG foo=1\n",
        "",
        "",
    ),
    (
        "# check=experimental=all\n\nFROM busybox\n# bar this\nARG foo=1 \\\n  x=2\n",
        "",
        "InvalidDefinitionDescription 5-6",
    ),
    (
        "# check=experimental=InvalidDefinitionDescription\n\n# bar this\nFROM busybox AS foo\n",
        "",
        "InvalidDefinitionDescription 4",
    ),
];

const ERRORS: &[Case] = &[
    (
        "FROM busybox as b\nMAINTAINER x\nFOO bar\nCMD a\nFROM busybox as c\n",
        "",
        "FromAsCasing 1, MaintainerDeprecated 2",
    ),
    ("FOO bar\nFROM busybox as b\n", "", ""),
    (
        "FROM busybox\nCMD a\nEXPOSE abc\nENTRYPOINT a\n",
        "",
        "JSONArgsRecommended 2",
    ),
    ("\n", "", ""),
    (
        "FROM busybox as b\nCMD a\nCOPY --chwon=1 a b\n",
        "",
        "FromAsCasing 1",
    ),
    (
        "FROM busybox\nCMD a\nCOPY a \\\n\n--x b\nWORKDIR\n",
        "",
        "NoEmptyContinuation 5",
    ),
    ("ARG X\nFROM $X\n", "", "InvalidDefaultArgInFrom 2"),
];

#[test]
fn names_and_case() {
    all(NAMES_AND_CASE);
}

#[test]
fn blank_lines_are_reported_at_the_end_of_their_instruction() {
    all(CONTINUATIONS);
}

#[test]
fn comments_right_above_a_definition_begin_with_its_name() {
    all(DESCRIPTIONS);
    // A blank line keeps a comment apart.
    all(&[(
        "# check=experimental=all\n\nFROM busybox\n# bar this\n\nARG foo=1\n",
        "",
        "",
    )]);
}

#[test]
fn what_stands_before_an_error_is_checked() {
    all(ERRORS);
}
