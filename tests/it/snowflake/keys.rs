//! Key pairs for logins.

use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pkcs8::der::SecretDocument;
use pkcs8::der::pem::LineEnding;
use pkcs8::{PrivateKeyInfoRef, pkcs5};
use sha2::{Digest, Sha256};

/// Writes the key, plain and encrypted.
pub fn write(key: &KeyPair, folder: &Path, passphrase: &str) -> (PathBuf, PathBuf) {
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(key).unwrap();
    let plain = SecretDocument::try_from(der.as_ref()).unwrap();
    let parameters =
        pkcs5::pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(2048, b"saltsalt", *b"0123456789abcdef");
    let encrypted = PrivateKeyInfoRef::try_from(der.as_ref())
        .unwrap()
        .encrypt_with_params(parameters.unwrap(), passphrase)
        .unwrap();
    let paths = (folder.join("key.p8"), folder.join("encrypted.p8"));
    std::fs::write(
        &paths.0,
        plain.to_pem("PRIVATE KEY", LineEnding::LF).unwrap().as_bytes(),
    )
    .unwrap();
    std::fs::write(
        &paths.1,
        encrypted
            .to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF)
            .unwrap()
            .as_bytes(),
    )
    .unwrap();
    paths
}

/// The public half as the gateway keeps it: the key, and its fingerprint as `DESC USER` shows it.
pub fn public(key: &KeyPair) -> (Vec<u8>, String) {
    let der = AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key()).unwrap();
    let fingerprint = format!("SHA256:{}", STANDARD.encode(Sha256::digest(der.as_ref())));
    (key.public_key().as_ref().to_vec(), fingerprint)
}
