//! What applications take in with the thin client.

use std::process::Command;

#[test]
fn neither_the_server_nor_its_drivers() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--offline", "--edges", "normal", "--prefix", "none", "--package", "hallmark-client"]);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
    let tree = String::from_utf8(output.stdout).expect("text");
    let names: Vec<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"hallmark-proto"), "{}", String::from_utf8_lossy(&output.stderr));
    for unwanted in ["cryptoki", "yubikey", "sqlx", "hallmark", "hallmark-core", "ring", "openssl", "native-tls"] {
        assert!(!names.contains(&unwanted), "`{unwanted}` is in the tree of the thin client");
    }
}
