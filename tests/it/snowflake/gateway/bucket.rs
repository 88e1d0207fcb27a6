//! The store behind signed URLs.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Response, StatusCode};

use super::{Shared, Signed};

impl Shared {
    /// A URL good for one method and one file.
    pub(super) fn sign(&self, method: Method, path: std::path::PathBuf) -> String {
        let mut state = self.state();
        state.number += 1;
        let signature = format!("c4n4ry{}", state.number);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
        let url = format!(
            "http://{}/bucket/{name}?X-Goog-Signature={signature}",
            self.address
        );
        state.signed.insert(signature, Signed { method, path });
        url
    }

    /// The store behind signed URLs.
    pub(super) fn bucket(&self, parts: &hyper::http::request::Parts, body: &Bytes) -> Response<Full<Bytes>> {
        let mut answer = Response::new(Full::default());
        let query = parts.uri.query().unwrap_or_default();
        let signature = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("X-Goog-Signature="));
        if let Some(piece) = signature.and_then(|signature| self.state().pieces.get(signature).cloned()) {
            let has_key = parts
                .headers
                .get("x-piece-key")
                .is_some_and(|key| key == "c4n4ry");
            assert!(
                has_key,
                "a piece is asked for without the headers that were given"
            );
            self.state().pieces_read += 1;
            answer
                .headers_mut()
                .insert("content-encoding", "gzip".parse().unwrap());
            *answer.body_mut() = Full::from(piece);
            return answer;
        }
        let signed = signature.and_then(|signature| self.state().signed.get(signature).cloned());
        let is_over = {
            let mut state = self.state();
            let is_over = state.refused_urls > 0;
            state.refused_urls = state.refused_urls.saturating_sub(1);
            is_over
        };
        let Some(signed) = signed.filter(|signed| signed.method == parts.method && !is_over) else {
            *answer.status_mut() = StatusCode::BAD_REQUEST;
            return answer;
        };
        if parts.method == Method::PUT {
            std::fs::create_dir_all(signed.path.parent().unwrap()).unwrap();
            std::fs::write(&signed.path, body).unwrap();
            return answer;
        }
        let Ok(bytes) = std::fs::read(&signed.path) else {
            *answer.status_mut() = StatusCode::NOT_FOUND;
            return answer;
        };
        let range = parts
            .headers
            .get("range")
            .and_then(|range| range.to_str().ok()?.strip_prefix("bytes="));
        if let Some((first, last)) = range.and_then(|range| range.split_once('-')) {
            let first: usize = first.parse().unwrap();
            let end = last
                .parse()
                .map_or(bytes.len(), |last: usize| bytes.len().min(last + 1));
            let range = format!("bytes {first}-{}/{}", end - 1, bytes.len());
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            answer
                .headers_mut()
                .insert("content-range", range.parse().unwrap());
            *answer.body_mut() = Full::from(bytes[first..end].to_vec());
        } else {
            *answer.body_mut() = Full::from(bytes);
        }
        answer
    }
}
