//! `evp`: the command line, and what runs in pods.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Two providers are in the graph; rustls must be told which one before the first TLS client.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(evp_worker::cli::run()),
        Err(error) => {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "evp: no runtime: {error}");
            ExitCode::from(3)
        }
    }
}
