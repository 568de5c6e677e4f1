# syntax=docker/dockerfile:1

# Both stages use the same Debian release, because the binary links to its C library.
FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src src
# The caches persist between builds on one machine, so the binary has to be copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --profile dist --locked --bin postern && cp target/dist/postern /postern

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /postern /postern
USER 65532:65532
EXPOSE 8080 8443 9090
ENTRYPOINT ["/postern"]
CMD ["run"]
