//! Runs all features with one major version of the client: `outrigger-client-tests 8`. The servers come from the
//! environment, see `scripts/test-clients`. One line per feature; exit status 1 when any differs.

use std::process::ExitCode;

/// The same source for both, as applications upgrade.
mod v8 {
    use elasticsearch8 as elasticsearch;
    include!("features.rs");
}
mod v9 {
    use elasticsearch9 as elasticsearch;
    include!("features.rs");
}

#[tokio::main]
async fn main() -> ExitCode {
    let failed = match std::env::args().nth(1).as_deref() {
        Some("8") => v8::run().await,
        Some("9") => v9::run().await,
        _ => panic!("which major version of the client: 8 or 9?"),
    };
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
