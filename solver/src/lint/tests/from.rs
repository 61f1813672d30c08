//! Rules about `FROM`.

use super::{Case, all};

const ARGUMENTS: &[Case] = &[
    (
        "FROM busybox:$TAG\n",
        "",
        "InvalidDefaultArgInFrom 1, UndefinedArgInFrom 1",
    ),
    ("ARG TAG\nFROM busybox$TAG\n", "", ""),
    ("ARG TAG=latest\nFROM busybox:${TAG}\n", "", ""),
    ("FROM busybox:${TAG:-latest}\n", "", "UndefinedArgInFrom 1"),
    ("FROM busybox${TAG:+:x}\n", "", "UndefinedArgInFrom 1"),
    ("FROM busybox${TAG-}\n", "", "UndefinedArgInFrom 1"),
    ("FROM busybox${TAG#x}\n", "", "UndefinedArgInFrom 1"),
    ("FROM busybox${TAG/x/y}\n", "", "UndefinedArgInFrom 1"),
    (
        "ARG TAGG=latest\nFROM busybox${TAG}\n",
        "",
        "UndefinedArgInFrom 2",
    ),
    ("FROM --platform=$BUILDPLATFORM busybox\n", "", ""),
    (
        "FROM --platform=linux/${ARCHX}amd64 busybox\n",
        "",
        "UndefinedArgInFrom 1",
    ),
    ("FROM busybox$TARGETVARIANT\n", "", ""),
    (
        "FROM busybox${X} AS a\nFROM busybox AS b\n",
        "target=b",
        "UndefinedArgInFrom 1",
    ),
    ("FROM busybox${X}\n", "X=:latest", "UndefinedArgInFrom 1"),
    (
        "FROM busybox${A}${B} AS a\nFROM busybox${A}\n",
        "",
        "UndefinedArgInFrom 1, UndefinedArgInFrom 1, UndefinedArgInFrom 2",
    ),
    (
        "FROM busybox AS a\nARG X=1\nFROM busybox${X}\n",
        "",
        "UndefinedArgInFrom 3",
    ),
    ("ARG S=a\nFROM busybox AS a\nFROM ${S}\n", "", ""),
];

const PLATFORMS: &[Case] = &[
    (
        "FROM --platform=$TARGETPLATFORM busybox\n",
        "",
        "RedundantTargetPlatform 1",
    ),
    (
        "FROM --platform=${TARGETPLATFORM} busybox AS a\n",
        "",
        "RedundantTargetPlatform 1",
    ),
    (
        "FROM --platform=${TARGETPLATFORM:-linux/amd64} busybox\n",
        "",
        "RedundantTargetPlatform 1",
    ),
    ("FROM --platform=$TARGETOS/$TARGETARCH busybox\n", "", ""),
    (
        "ARG TARGETPLATFORM\nFROM --platform=$TARGETPLATFORM busybox\n",
        "",
        "RedundantTargetPlatform 2",
    ),
    (
        "ARG TARGETPLATFORM=linux/amd64\nFROM --platform=$TARGETPLATFORM busybox\n",
        "",
        "RedundantTargetPlatform 2",
    ),
    ("ARG P=linux/amd64\nFROM --platform=$P busybox\n", "", ""),
    ("ARG P\nFROM --platform=$TARGETPLATFORM$P busybox\n", "", ""),
    (
        "FROM --platform=linux/amd64 busybox\n",
        "",
        "FromPlatformFlagConstDisallowed 1",
    ),
    (
        "FROM --platform=linux/amd64 busybox AS build\n",
        "",
        "FromPlatformFlagConstDisallowed 1",
    ),
    (
        "FROM --platform=linux/amd64 busybox AS build_amd64\n",
        "",
        "",
    ),
    (
        "FROM --platform=linux/amd64 busybox AS linuxbuild\n",
        "",
        "",
    ),
    (
        "FROM --platform=amd64 busybox AS b\n",
        "",
        "FromPlatformFlagConstDisallowed 1",
    ),
    (
        "FROM --platform=linux/x86_64 busybox AS x86_64\n",
        "",
        "FromPlatformFlagConstDisallowed 1",
    ),
    (
        "FROM --platform=linux busybox AS x\n",
        "",
        "FromPlatformFlagConstDisallowed 1",
    ),
    (
        "FROM --platform=linux/amd64 busybox AS AMD64\n",
        "",
        "StageNameCasing 1",
    ),
    (
        "FROM --platform=\"linux/amd64\" busybox AS b\n",
        "",
        "FromPlatformFlagConstDisallowed 1",
    ),
    (
        "FROM --platform=${X:-linux/amd64} busybox\n",
        "",
        "UndefinedArgInFrom 1",
    ),
    ("FROM --platform=linux/amd64${BUILDOS:+} busybox\n", "", ""),
    (
        "FROM --platform=$TARGETPLATFORM$TARGETVARIANT busybox\n",
        "",
        "",
    ),
];

const DEFAULTS: &[Case] = &[
    (
        "ARG TAG\nFROM busybox:$TAG\n",
        "TAG=latest",
        "InvalidDefaultArgInFrom 2",
    ),
    (
        "ARG TAG\nFROM busybox:$TAG\n",
        "",
        "InvalidDefaultArgInFrom 2",
    ),
    ("ARG TAG=latest\nFROM busybox:$TAG\n", "", ""),
    (
        "ARG BASE\nFROM $BASE\n",
        "BASE=busybox",
        "InvalidDefaultArgInFrom 2",
    ),
    ("ARG TAG\nFROM busybox:${TAG:-latest}\n", "", ""),
    ("ARG S\nFROM busybox$S\n", "", ""),
    (
        "ARG TAG\nFROM busybox:$TAG AS a\nFROM busybox AS b\n",
        "target=b TAG=latest",
        "InvalidDefaultArgInFrom 2",
    ),
    ("FROM Busybox\n", "", "InvalidDefaultArgInFrom 1"),
    (
        "ARG T\nFROM busybox:$T AS a\nFROM busybox:$T\n",
        "T=latest",
        "InvalidDefaultArgInFrom 2, InvalidDefaultArgInFrom 3",
    ),
    (
        "ARG V\nARG T=x:$V\nFROM busybox$T\n",
        "T=",
        "InvalidDefaultArgInFrom 3",
    ),
    ("FROM busybox@sha256:00\n", "", "InvalidDefaultArgInFrom 1"),
    (
        "FROM busybox AS a-\nFROM a-\n",
        "",
        "InvalidDefaultArgInFrom 2",
    ),
    (
        "FROM busybox AS a..b\nFROM a..b\n",
        "",
        "InvalidDefaultArgInFrom 2",
    ),
    ("FROM scratch AS x\nFROM x\n", "", ""),
    // Also behind a stage that has no base.
    (
        "FROM ${A}\nFROM busybox:$B\nFROM $C\n",
        "",
        "InvalidDefaultArgInFrom 1, UndefinedArgInFrom 1, InvalidDefaultArgInFrom 2, InvalidDefaultArgInFrom 3",
    ),
];

#[test]
fn arguments_of_from_are_declared() {
    all(ARGUMENTS);
}

#[test]
fn platforms_are_neither_redundant_nor_constant() {
    all(PLATFORMS);
    all(&[(
        "FROM --platform=${X:-linux/amd64} busybox\n",
        "",
        "UndefinedArgInFrom 1",
    )]);
}

#[test]
fn names_are_valid_without_build_arguments() {
    all(DEFAULTS);
}

#[test]
fn base_images_are_for_the_platform_that_is_built() {
    all(&[
        ("FROM busybox\n", "", ""),
        (
            "FROM busybox\n",
            "platform=linux/arm64",
            "InvalidBaseImagePlatform 1",
        ),
        (
            "FROM --platform=linux/arm64 busybox AS arm64\nFROM busybox\n",
            "",
            "InvalidBaseImagePlatform 1",
        ),
        (
            "FROM --platform=linux/arm64 busybox AS arm64\nFROM busybox AS b\n",
            "target=b",
            "",
        ),
        (
            "FROM --platform=$BUILDPLATFORM busybox\n",
            "platform=linux/arm64",
            "",
        ),
        ("FROM scratch\nCOPY a /\n", "platform=linux/arm64", ""),
        // What is given in place of a base is meant.
        ("FROM busybox\n", "platform=linux/arm64 context=busybox", ""),
        (
            "FROM busybox\nFROM alpine\n",
            "platform=linux/arm64 context=busybox",
            "InvalidBaseImagePlatform 2",
        ),
    ]);
}
