# syntax=docker/dockerfile:1

# Building needs Rust, a C compiler, perl and make (for the bundled SQLite, libpq and OpenSSL), and no protoc.
FROM rust:1.91-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make perl \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY Cargo.toml Cargo.lock build.rs ./
COPY proto proto
COPY migrations migrations
COPY src src
# Not built, but Cargo.toml names it, and cargo wants to see it.
COPY benches benches
# Line numbers are four fifths of the binary. The names of functions stay, for backtraces.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked --bin auditlog \
    && install -D target/release/auditlog /image/usr/local/bin/auditlog \
    && strip --strip-debug /image/usr/local/bin/auditlog \
    && install -d /image/data

# glibc, libgcc and certificates of authorities; no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build --chown=root:root /image/usr /usr
COPY --from=build --chown=nonroot:nonroot /image/data /data
USER nonroot
# Where the embedded store and its key are, unless settings say otherwise.
WORKDIR /data
VOLUME /data
# Beyond loopback the service starts only once it is said why its callers may be believed; see AUDITLOG_AUTH_TRUST_NETWORK.
ENV AUDITLOG_LISTEN=0.0.0.0:50051 \
    AUDITLOG_ADMIN_LISTEN=0.0.0.0:9464
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s CMD ["auditlog", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/auditlog"]
CMD ["serve"]
