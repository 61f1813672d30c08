//! Variables that are used and never set.

use super::{Case, all};

const VARIABLES: &[Case] = &[
    ("FROM busybox\nCOPY $foo .\n", "", "UndefinedVar 2"),
    (
        "FROM busybox\nENV A=$foo B=${bar}\n",
        "",
        "UndefinedVar 2, UndefinedVar 2",
    ),
    ("FROM busybox\nENV A=1 B=$A\n", "", "UndefinedVar 2"),
    ("FROM busybox\nENV $k=1\n", "", "UndefinedVar 2"),
    ("FROM busybox\nRUN echo $foo\n", "", ""),
    ("FROM busybox\nLABEL a=$foo\n", "", "UndefinedVar 2"),
    ("FROM busybox\nLABEL $foo.x=1\n", "", "UndefinedVar 2"),
    ("FROM busybox\nWORKDIR /a/$foo\n", "", "UndefinedVar 2"),
    ("FROM busybox\nUSER a$foo\n", "", "UndefinedVar 2"),
    ("FROM busybox\nVOLUME /a$foo\n", "", "UndefinedVar 2"),
    ("FROM busybox\nVOLUME [\"/a$foo\"]\n", "", "UndefinedVar 2"),
    ("FROM busybox\nEXPOSE 80$foo\n", "", ""),
    (
        "FROM busybox\nSTOPSIGNAL SIGINT$foo\n",
        "",
        "UndefinedVar 2",
    ),
    ("FROM busybox\nARG A=$foo\n", "", "UndefinedVar 2"),
    ("FROM busybox\nARG A=$foo\n", "A=1", ""),
    ("FROM busybox\nARG A=1 B=$A C=$D\n", "", "UndefinedVar 2"),
    ("FROM busybox\nARG foo\nENV A=$foo\n", "", ""),
    ("FROM busybox\nENV A=${foo:-x}\n", "", "UndefinedVar 2"),
    ("FROM busybox\nENV A=${foo-x}\n", "", "UndefinedVar 2"),
    ("FROM busybox\nENV A=${foo:+x}\n", "", "UndefinedVar 2"),
    ("FROM busybox\nENV A=${foo#x}\n", "", "UndefinedVar 2"),
    ("FROM busybox\nENV A=${foo%x}\n", "", "UndefinedVar 2"),
    ("FROM busybox\nENV A=${foo/x/y}\n", "", "UndefinedVar 2"),
    (
        "FROM busybox\nENV A=${foo:-$bar}\n",
        "",
        "UndefinedVar 2, UndefinedVar 2",
    ),
    (
        "FROM busybox\nENV A=1 \nENV B=${A:-$bar}\n",
        "",
        "UndefinedVar 3",
    ),
    ("FROM busybox\nENV PATH=$PATH:/x\n", "", ""),
    ("FROM scratch\nENV PATH=$PATH:/x\n", "", ""),
    (
        "FROM busybox\nENV LD_LIBRARY_PATH=/x:$LD_LIBRARY_PATH\n",
        "",
        "UndefinedVar 2",
    ),
    ("FROM busybox\nENV A='$foo'\n", "", ""),
    ("FROM busybox\nENV A=\\$foo\n", "", ""),
    ("FROM busybox\nENV A=\"$foo\"\n", "", "UndefinedVar 2"),
    (
        "FROM busybox\nENV A=$foo B=$foo\n",
        "",
        "UndefinedVar 2, UndefinedVar 2",
    ),
    (
        "FROM busybox\nARG version=1\nENV A=$verison\n",
        "",
        "UndefinedVar 3",
    ),
    ("FROM busybox\nENV PATH=$PAHT:/x\n", "", "UndefinedVar 2"),
    ("ARG G=1\nFROM busybox\nENV A=$G\n", "", "UndefinedVar 3"),
    ("ARG G=1\nFROM busybox\nARG G\nENV A=$G\n", "", ""),
    ("FROM busybox\nENV A=$TARGETARCH\n", "", "UndefinedVar 2"),
    ("FROM busybox\nARG TARGETARCH\nENV A=$TARGETARCH\n", "", ""),
    (
        "FROM busybox\nCOPY <<EOF /x\n$foo\nEOF\n",
        "",
        "UndefinedVar 2-4",
    ),
    ("FROM busybox\nCOPY <<'EOF' /x\n$foo\nEOF\n", "", ""),
    (
        "FROM busybox\nCOPY <<EOF /x$bar\n$foo ${baz}\nEOF\n",
        "",
        "UndefinedVar 2-4, UndefinedVar 2-4, UndefinedVar 2-4",
    ),
    ("FROM busybox\nRUN <<EOF\necho $foo\nEOF\n", "", ""),
    (
        "FROM busybox\nCOPY --chown=$foo a /a\n",
        "",
        "UndefinedVar 2",
    ),
    (
        "FROM busybox\nCOPY --chmod=7${foo}55 a /a\n",
        "",
        "UndefinedVar 2",
    ),
    ("FROM busybox\nCOPY --exclude=$foo a /a\n", "", ""),
    ("FROM busybox\nCOPY a b /a$foo/\n", "", "UndefinedVar 2"),
    ("FROM busybox\nADD a /a$foo\n", "", "UndefinedVar 2"),
    (
        "FROM busybox\nADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d$foo https://127.0.0.1/x /a\n",
        "",
        "UndefinedVar 2",
    ),
    (
        "FROM busybox\nRUN --mount=type=cache,target=/a$foo true\n",
        "",
        "UndefinedVar 2",
    ),
    (
        "FROM busybox\nRUN --mount=type=cache,id=$foo,target=/a true\n",
        "",
        "UndefinedVar 2",
    ),
    (
        "FROM busybox\nCMD [\"$foo\"]\nENTRYPOINT [\"$foo\"]\n",
        "",
        "",
    ),
    ("FROM busybox\nHEALTHCHECK CMD [\"$foo\"]\n", "", ""),
    ("FROM busybox\nSHELL [\"$foo\"]\n", "", ""),
    (
        "FROM busybox\nMAINTAINER $foo\n",
        "",
        "MaintainerDeprecated 2",
    ),
    ("FROM busybox AS a\nONBUILD ENV A=$foo\nRUN true\n", "", ""),
    (
        "FROM busybox AS a\nONBUILD ENV A=$foo\nFROM a\nRUN true\n",
        "",
        "UndefinedVar 3",
    ),
    (
        "FROM busybox AS a\nARG X=1\nENV Y=1\nFROM a\nENV B=$X$Y\n",
        "",
        "",
    ),
    ("FROM busybox AS a\nARG X\nFROM a\nENV B=$X\n", "", ""),
    (
        "FROM busybox AS a\nARG X=1\nFROM busybox\nENV B=$X\n",
        "",
        "UndefinedVar 4",
    ),
    (
        "FROM busybox AS a\nENV B=$X\nFROM busybox AS b\n",
        "target=b",
        "",
    ),
    (
        "FROM busybox AS a\nENV B=$X\nFROM busybox AS b\n",
        "",
        "UndefinedVar 2",
    ),
    ("FROM busybox\nENV A=$HTTP_PROXY\n", "", "UndefinedVar 2"),
    (
        "FROM busybox\nENV A=$HTTP_PROXY\n",
        "HTTP_PROXY=x",
        "UndefinedVar 2",
    ),
    (
        "FROM busybox\nENV A=$SOURCE_DATE_EPOCH\n",
        "SOURCE_DATE_EPOCH=1",
        "UndefinedVar 2",
    ),
    (
        "FROM busybox\nENV A=$1 B=$@\n",
        "",
        "UndefinedVar 2, UndefinedVar 2",
    ),
    (
        "FROM busybox\nARG BUILDKIT_SBOM_SCAN_STAGE\nENV A=$BUILDKIT_SBOM_SCAN_STAGE B=$BUILDKIT_SBOM_SCAN_CONTEXT\n",
        "",
        "",
    ),
    (
        "FROM busybox\nENV A=$z$y$x\nLABEL b=$w\n",
        "",
        "UndefinedVar 2, UndefinedVar 2, UndefinedVar 2, UndefinedVar 3",
    ),
    ("FROM busybox\nENV A=$ B=a$\n", "", ""),
    ("FROM busybox\nARG $x=1\n", "", ""),
    (
        "FROM busybox\nADD https://github.com/moby/buildkit.git#$x /a\n",
        "",
        "UndefinedVar 2",
    ),
    (
        "FROM busybox\nENV A=$x \\\n  B=$y\n",
        "",
        "UndefinedVar 2-3, UndefinedVar 2-3",
    ),
    (
        "FROM busybox\nLABEL \"a$x\"=\"b $y\"\n",
        "",
        "UndefinedVar 2, UndefinedVar 2",
    ),
    ("FROM busybox\nWORKDIR ${d:-/x}\n", "", "UndefinedVar 2"),
    ("FROM busybox\nARG p\nEXPOSE $p 80\n", "", ""),
    (
        "FROM busybox\nUSER $u:$g\n",
        "",
        "UndefinedVar 2, UndefinedVar 2",
    ),
    (
        "# escape=`\nFROM busybox\nENV A=`$x B=\\$y\n",
        "",
        "UndefinedVar 3",
    ),
];

#[test]
fn variables_are_set_before_they_are_used() {
    all(VARIABLES);
}
