//! Login with a key pair: a JSON web token, signed with the user's RSA key.
//!
//! Snowflake knows the user's public key by the SHA-256 of its DER form. The token names account and user, carries
//! that fingerprint in its issuer, and is good for a minute; each login signs a new one. Keys are PEM: PKCS#8, plain
//! or encrypted, or PKCS#1 in plain.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::der::{Decode, SecretDocument};
use sha2::{Digest, Sha256};

use super::secret::Secret;
use crate::error::{Error, Result};

/// How long a token is good for: as long as the connector's.
const LIFETIME: Duration = Duration::from_secs(60);

/// How a private key is made that Snowflake and Floe take.
const MAKE_A_KEY: &str =
    "make one with `openssl genrsa 2048 | openssl pkcs8 -topk8 -inform PEM -out rsa_key.p8`";

/// A user's private key.
pub(super) struct KeyPair {
    key: RsaKeyPair,
    fingerprint: String,
}

impl KeyPair {
    /// Reads a key of PEM text; `place` says where it was found.
    ///
    /// # Errors
    /// `Config`, without a byte of the key.
    pub(super) fn from_pem(pem: &Secret, passphrase: Option<&Secret>, place: &str) -> Result<KeyPair> {
        let refused = |why: &str, hint: &str| {
            Err(Error::config(format!("not a usable private key: {why}"))
                .with("location", place)
                .with_hint(hint))
        };
        // PEM in an option of a file or a variable may have lost its line break at the end.
        let text = Secret::new(format!("{}\n", pem.reveal().trim()));
        let Ok((label, der)) = SecretDocument::from_pem(text.reveal()) else {
            return refused("it is no PEM", MAKE_A_KEY);
        };
        let decrypted;
        let der = match (label, passphrase) {
            ("ENCRYPTED PRIVATE KEY", None) => {
                return refused(
                    "it is encrypted",
                    "give its passphrase as private_key_file_pwd or in PRIVATE_KEY_PASSPHRASE",
                );
            }
            ("ENCRYPTED PRIVATE KEY", Some(passphrase)) => {
                let Ok(encrypted) = EncryptedPrivateKeyInfoRef::from_der(der.as_bytes()) else {
                    return refused("its encryption is unknown", MAKE_A_KEY);
                };
                match encrypted.decrypt(passphrase.reveal()) {
                    Ok(key) => decrypted = key,
                    Err(_) => {
                        return refused(
                            "it can't be decrypted",
                            "check the passphrase; encryption by AES or 3DES with PBKDF2-SHA256 or scrypt is understood",
                        );
                    }
                }
                &decrypted
            }
            ("PRIVATE KEY" | "RSA PRIVATE KEY", _) => &der,
            _ => return refused("its PEM holds something else", MAKE_A_KEY),
        };
        let key = match label {
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(der.as_bytes()),
            _ => RsaKeyPair::from_pkcs8(der.as_bytes()),
        };
        let Ok(key) = key else {
            return refused("it is no RSA key of 2048 bits or more", MAKE_A_KEY);
        };
        let Ok(public) = AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key()) else {
            return refused("its public half can't be written", MAKE_A_KEY);
        };
        let fingerprint = format!("SHA256:{}", STANDARD.encode(Sha256::digest(public.as_ref())));
        Ok(KeyPair { key, fingerprint })
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// `Config`.
    pub(super) fn from_file(path: &Path, passphrase: Option<&Secret>) -> Result<KeyPair> {
        let place = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::config("can't read the private key")
                .with("location", &place)
                .with_source(error)
        })?;
        KeyPair::from_pem(&Secret::new(text), passphrase, &place)
    }

    /// How Snowflake knows the public key: `DESC USER` shows it as `RSA_PUBLIC_KEY_FP`.
    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// A token for one login.
    ///
    /// # Errors
    /// `Internal` when the key can't sign.
    pub(super) fn token(&self, account: &str, user: &str) -> Result<Secret> {
        // Snowflake refuses a token that is not of this minute: the one place where a store asks for the time of day.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.token_at(account, user, now)
    }

    fn token_at(&self, account: &str, user: &str, now: Duration) -> Result<Secret> {
        let subject = format!("{}.{}", account_of_token(account), user.to_uppercase());
        let claims = serde_json::json!({
            "iss": format!("{subject}.{}", self.fingerprint),
            "sub": subject,
            "iat": now.as_secs(),
            "exp": (now + LIFETIME).as_secs(),
        });
        let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT"}"#);
        let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let random = SystemRandom::new();
        self.key
            .sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature)
            .map_err(|_| {
                Error::new(
                    crate::error::ErrorKind::Internal,
                    "can't sign with the private key",
                )
            })?;
        Ok(Secret::new(format!(
            "{signed}.{}",
            URL_SAFE_NO_PAD.encode(signature)
        )))
    }
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyPair({})", self.fingerprint)
    }
}

/// The account as a token names it: without region, and without the id of a `….global` account.
fn account_of_token(account: &str) -> String {
    let end = if account.contains(".global") { '-' } else { '.' };
    account.split(end).next().unwrap_or(account).to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::encoding::Pkcs8V1Der;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use pkcs8::der::pem::LineEnding;

    fn key() -> (RsaKeyPair, SecretDocument) {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&key).unwrap();
        let document = SecretDocument::try_from(der.as_ref()).unwrap();
        (key, document)
    }

    fn pem(document: &SecretDocument, label: &'static str) -> Secret {
        Secret::new(document.to_pem(label, LineEnding::LF).unwrap().as_str())
    }

    #[test]
    fn a_token_names_account_user_and_key_and_is_signed_with_it() {
        let (public, document) = key();
        let pair = KeyPair::from_pem(&pem(&document, "PRIVATE KEY"), None, "here").unwrap();
        let now = Duration::from_secs(1_800_000_000);
        let token = pair.token_at("org-acct.eu-west-1", "me", now).unwrap();
        let parts: Vec<&str> = token.reveal().split('.').collect();
        let signed = format!("{}.{}", parts[0], parts[1]);
        let public =
            UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public.public_key().as_ref().to_vec());
        let signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
        public.verify(signed.as_bytes(), &signature).unwrap();
        let claims: serde_json::Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
        assert_eq!(claims["sub"], "ORG-ACCT.ME");
        assert_eq!(claims["iss"], format!("ORG-ACCT.ME.{}", pair.fingerprint()));
        assert_eq!(claims["iat"], 1_800_000_000);
        assert_eq!(claims["exp"], 1_800_000_060);
        assert_eq!(account_of_token("acct-ab12.global"), "ACCT");
    }

    #[test]
    fn what_is_no_key_is_refused_without_a_byte_of_it() {
        let (_, document) = key();
        let plain = pem(&document, "PRIVATE KEY");
        let cut = Secret::new(plain.reveal().replacen("MII", "c4n4ry", 1));
        for (pem, passphrase, reason) in [
            (Secret::new("c4n4ry"), None, "no PEM"),
            (cut, None, "no PEM"),
            (pem(&document, "CERTIFICATE"), None, "something else"),
            (pem(&document, "ENCRYPTED PRIVATE KEY"), None, "is encrypted"),
            (
                pem(&document, "ENCRYPTED PRIVATE KEY"),
                Some(Secret::new("c4n4ry")),
                "encryption is unknown",
            ),
            (pem(&document, "RSA PRIVATE KEY"), None, "no RSA key"),
        ] {
            let error = KeyPair::from_pem(&pem, passphrase.as_ref(), "here").unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains(reason), "{reason}: {text}");
            assert!(!text.contains("c4n4ry") && !text.contains("MII"), "{text}");
        }
        assert!(
            format!("{:?}", KeyPair::from_pem(&plain, None, "here").unwrap()).starts_with("KeyPair(SHA256:")
        );
    }

    /// As Snowflake's own instructions have keys made: `openssl … pkcs8 -topk8` with `-v2 des3`, AES and scrypt.
    #[test]
    fn keys_that_openssl_encrypted_are_read() {
        for pem in [
            include_str!("testing/des3.p8"),
            include_str!("testing/aes256.p8"),
            include_str!("testing/scrypt.p8"),
        ] {
            let pem = Secret::new(pem);
            let pair = KeyPair::from_pem(&pem, Some(&Secret::new("opensesame")), "here").unwrap();
            assert_eq!(pair.fingerprint(), include_str!("testing/fingerprint").trim());
            let wrong = KeyPair::from_pem(&pem, Some(&Secret::new("wrong")), "here").unwrap_err();
            assert!(wrong.to_string().contains("check the passphrase"), "{wrong}");
        }
        let pkcs1 = Secret::new(include_str!("testing/pkcs1.pem"));
        let pair = KeyPair::from_pem(&pkcs1, None, "here").unwrap();
        assert_eq!(pair.fingerprint(), include_str!("testing/fingerprint").trim());
    }
}
