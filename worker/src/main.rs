//! `evp`: the command line, and what runs in pods.

use std::process::ExitCode;
use std::time::Duration;

/// How long clients of brokers may take to close: more than any whose broker answers.
const CLOSING: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    // Two providers are in the graph; rustls must be told which one before the first TLS client.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(evp_worker::cli::run());
            drop(runtime);
            evp_worker::kafka::settle(CLOSING);
            code
        }
        Err(error) => {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "evp: no runtime: {error}");
            ExitCode::from(3)
        }
    }
}
