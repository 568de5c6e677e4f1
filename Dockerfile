# syntax=docker/dockerfile:1

# Same Debian release in both stages: the binary links to its C library.
FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src src
# The caches stay between builds on one machine; what is built must leave them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --profile dist --locked --bin postern && cp target/dist/postern /postern

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /postern /postern
USER 65532:65532
EXPOSE 8080 8443 9090
ENTRYPOINT ["/postern"]
CMD ["run"]
