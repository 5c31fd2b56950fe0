# The two images: `docker build --target worker -t evp-worker .` and `docker build --target operator -t evp-operator .`
# The tests run the same layout from archives made without a container engine (tests/bed/images.sh); a test compares the two.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The image's own toolchain: rust-toolchain.toml would fetch another one.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    RUSTUP_TOOLCHAIN="$RUST_VERSION" cargo build --release --locked --bin evp --bin evp-operator \
    && mkdir /out && for b in evp evp-operator; do strip -o "/out/$b" "target/release/$b"; done

FROM debian:bookworm-slim AS worker
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/evp /usr/local/bin/evp
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
# Batches are freed on other threads than they are made on: without this the C library keeps a third more memory.
ENV MALLOC_MMAP_THRESHOLD_=65536
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/evp"]

FROM debian:bookworm-slim AS operator
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/evp-operator /usr/local/bin/evp-operator
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/evp-operator"]
