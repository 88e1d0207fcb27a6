//! Logins and tokens: who may begin a session, how long its token is good for, and how it is renewed.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{ACCOUNT, PASSWORD, Session, Shared, State, USER, refusal};

impl Shared {
    pub(super) fn log_in(&self, query: &HashMap<String, String>, body: &Value) -> Value {
        let mut state = self.state();
        let data = |name: &str| body["data"][name].as_str().unwrap_or_default();
        if data("ACCOUNT_NAME") != ACCOUNT {
            return refusal("390201", "The requested account does not exist");
        }
        let token = data("TOKEN");
        let refused = match data("AUTHENTICATOR") {
            "" | "SNOWFLAKE" => {
                let is_user = data("LOGIN_NAME").eq_ignore_ascii_case(USER) && data("PASSWORD") == PASSWORD;
                (!is_user).then_some(("390100", "Incorrect username or password was specified."))
            }
            "SNOWFLAKE_JWT" => match state.check_key_pair(token) {
                Ok(()) => None,
                Err(code) => Some((code, "JWT token is invalid.")),
            },
            kind => {
                let is_known = state
                    .tokens
                    .iter()
                    .any(|(known, text)| *known == kind && text == token);
                let code = if kind == "OAUTH" { "390303" } else { "394400" };
                (!is_known).then_some((code, "the token is not accepted"))
            }
        };
        if let Some((code, message)) = refused {
            // As careless a service as can be: its message repeats what it was shown.
            return refusal(code, &format!("{message} [{}{}]", data("PASSWORD"), token));
        }
        let session = Session {
            uses: 0,
            database: query.get("databaseName").map(|name| name.to_uppercase()),
            schema: query.get("schemaName").map(|name| name.to_uppercase()),
        };
        let info = json!({
            "databaseName": session.database, "schemaName": session.schema, "warehouseName": null, "roleName": "FLOE",
        });
        let (token, master) = state.new_tokens(session);
        json!({"success": true, "data": {
            "token": token, "masterToken": master, "validityInSeconds": 3600, "masterValidityInSeconds": 14400,
            "sessionId": 17, "displayUserName": USER, "serverVersion": "9.0.0",
            "parameters": [{"name": "AUTOCOMMIT", "value": true}, {"name": "CLIENT_TELEMETRY_ENABLED", "value": false}],
            "sessionInfo": info,
        }})
    }

    pub(super) fn renew(&self, body: &Value, token: &str) -> Value {
        let mut state = self.state();
        let old = body["oldSessionToken"].as_str().unwrap_or_default();
        let is_known = state.masters.remove(token).is_some();
        let session = state.sessions.remove(old);
        match (session, is_known && !state.is_master_refused) {
            (Some(mut session), true) if body["requestType"] == "RENEW" => {
                session.uses = 0;
                let (token, master) = state.new_tokens(session);
                json!({"success": true, "data": {
                    "sessionToken": token, "validityInSecondsST": 3600, "masterToken": master, "validityInSecondsMT": 14400,
                    "sessionId": 17,
                }})
            }
            _ => refusal(
                "390114",
                "Authentication token has expired. The user must authenticate again.",
            ),
        }
    }

    /// A refusal, unless the session token is good for one more request.
    pub(super) fn use_token(&self, token: &str) -> Option<Value> {
        let mut state = self.state();
        let most = state.token_uses;
        let Some(session) = state.sessions.get_mut(token) else {
            return Some(refusal("390104", "User must login again to access the service."));
        };
        session.uses += 1;
        most.is_some_and(|most| session.uses > most)
            .then(|| refusal("390112", "Your session has expired. Please login again."))
    }
}

impl State {
    fn new_tokens(&mut self, session: Session) -> (String, String) {
        self.number += 1;
        let token = format!("ver:1-hint:17-c4n4ry-session-{}", self.number);
        let master = format!("ver:1-hint:17-c4n4ry-master-{}", self.number);
        self.sessions.insert(token.clone(), session);
        self.masters.insert(master.clone(), self.number);
        (token, master)
    }

    /// Forgets every session, as when an administrator ends them.
    pub fn end_sessions(&mut self) {
        self.sessions.clear();
        self.masters.clear();
    }

    /// Whether a token is signed by the user's key, names it, and is of now; else Snowflake's code.
    fn check_key_pair(&self, token: &str) -> Result<(), &'static str> {
        let (key, fingerprint) = self.public_key.as_ref().ok_or("394304")?;
        let parts: Vec<&str> = token.split('.').collect();
        let [head, claims, signature] = parts[..] else {
            return Err("394306");
        };
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| "394306");
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key);
        public
            .verify(format!("{head}.{claims}").as_bytes(), &decode(signature)?)
            .map_err(|_| "394304")?;
        let head: Value = serde_json::from_slice(&decode(head)?).map_err(|_| "394306")?;
        let claims: Value = serde_json::from_slice(&decode(claims)?).map_err(|_| "394306")?;
        let subject = format!("{}.{USER}", ACCOUNT.to_uppercase());
        if head["alg"] != "RS256" {
            return Err("394305");
        }
        if claims["sub"] != *subject || claims["iss"] != *format!("{subject}.{fingerprint}") {
            return Err("394304");
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        match (claims["iat"].as_u64(), claims["exp"].as_u64()) {
            (Some(issued), Some(end)) if issued <= now + 5 && now <= end && end <= issued + 3600 => Ok(()),
            _ => Err("394301"),
        }
    }
}
