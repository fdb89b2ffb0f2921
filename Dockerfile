# One static binary, and nothing else but certificate authorities: for keys of an issuer that come from a URL.
#
#     docker build -t hubwire .
#     docker run --rm -p 8888:8888 -v ./hubwire.toml:/etc/hubwire/hubwire.toml:ro -e HUBWIRE_CONFIG=/etc/hubwire/hubwire.toml hubwire
FROM rust:1.88-alpine3.22 AS build
# What the C parts of the allocator and of the cryptography are built with. The base image decides their versions.
# hadolint ignore=DL3018
RUN apk add --no-cache build-base ca-certificates cmake linux-headers perl
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY examples examples
COPY tests tests
COPY src src
COPY README.md ./
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --locked --release --features server --bin hubwire \
    && install -D target/release/hubwire /out/hubwire

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/hubwire /hubwire
# Nobody in particular: it needs no name and no home.
USER 65532:65532
EXPOSE 8888 8889
# There is no other program in here that could ask.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["/hubwire", "healthcheck"]
# What SIGTERM drains takes up to drain_delay + drain_timeout + limits.shutdown_timeout: give `docker stop` as long.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/hubwire"]
CMD ["serve"]
