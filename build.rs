//! Compiles the protocol files, without `protoc`.

use std::path::{Path, PathBuf};

use protox::prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    compile("peer.proto", None)?;
    // A client for `raftcache bench`; nothing of it is served.
    compile("etcd.proto", None)?;
    if Path::new("proto/cache.proto").exists() {
        // The descriptor, imports included, serves gRPC reflection.
        compile("cache.proto", Some(&out.join("cache_descriptor.bin")))?;
    }
    Ok(())
}

fn compile(file: &str, descriptor: Option<&Path>) -> Result<(), Box<dyn std::error::Error>> {
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).include_source_info(true).open_file(file)?;
    let set = compiler.file_descriptor_set();
    if let Some(path) = descriptor {
        std::fs::write(path, set.encode_to_vec())?;
    }
    let codec = "crate::codec::message::ExactCodec";
    tonic_prost_build::configure().bytes(".").codec_path(codec).compile_fds(set)?;
    Ok(())
}
