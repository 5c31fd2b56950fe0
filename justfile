# An index of commands; nobody needs `just`.
demo *ARGS:
    cargo run --bin evp -- demo orders {{ARGS}}
laws:
    cargo test --workspace
test *LEVELS:
    ./tests/run {{LEVELS}}
lint:
    ./tests/run lint
update-generated:
    UPDATE_EXPECT=1 cargo test -p evp-tests --test scenarios generated
bench:
    ./tests/bench orders
fire:
    ./tests/fire
bench-pure:
    cargo bench -p evp-core
bed-up *PARTS:
    ./tests/bed/bed up {{PARTS}}
bed-down:
    ./tests/bed/bed down
images:
    docker build --target worker -t evp-worker . && docker build --target operator -t evp-operator .
advisories:
    cargo deny check advisories
