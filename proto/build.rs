//! Compiles the files in `hallmark/v1` with protox: nobody needs `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

const FILES: [&str; 6] = [
    "hallmark/v1/assertion.proto",
    "hallmark/v1/clients.proto",
    "hallmark/v1/keys.proto",
    "hallmark/v1/policy.proto",
    "hallmark/v1/rotation.proto",
    "hallmark/v1/jwks.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    println!("cargo:rerun-if-changed=google/rpc/status.proto");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("hallmark.v1.bin"), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure()
        .build_client(env::var_os("CARGO_FEATURE_CLIENT").is_some())
        .build_server(env::var_os("CARGO_FEATURE_SERVER").is_some())
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .compile_fds(descriptors)?;
    Ok(())
}
