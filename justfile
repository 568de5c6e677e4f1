# The gate's steps, one recipe each: `.ci/run` holds what they do. Named like this they run on the working tree as it is.

# Lists the recipes.
default:
    @just --list

# Everything, on a fresh clone of what is committed: what every commit has to pass.
gate:
    .ci/run

# What to run before a push.
quick: format lints doc unit

# Installs what the tests need, on Debian.
prerequisites:
    .ci/run prerequisites

# Fails on what rustfmt would change.
format:
    .ci/run format

# clippy over all targets, warnings as errors.
lints:
    .ci/run lints

# The crate's documentation, private items included; broken links are errors.
doc:
    .ci/run doc

# Licences, sources, and crates that stand twice.
dependencies:
    .ci/run dependencies

# Starts the product without a cluster, and leaves after two exchanges.
try:
    .ci/run try

# Compiles the tests.
compile:
    .ci/run compile

# Builds the Go programs that the tests start.
programs:
    .ci/run programs

# Unit tests.
unit:
    .ci/run unit

# The binary on real sockets.
it:
    .ci/run it

# On a real kube-apiserver.
kube:
    .ci/run kube

# On a whole node; takes root.
cluster:
    .ci/run cluster

# Twenty seconds for each fuzz target.
fuzz:
    .ci/run fuzz
