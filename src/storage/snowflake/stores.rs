//! The cloud's own client for a stage: place and lease → an object store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService,
};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::list::PaginatedListStore;
use object_store::{ObjectStore, Result};

use super::lease::{AwsKeys, AzureKeys, GcsKeys, Lease};
use super::renewing::StageStore;
use super::stage::Place;
use crate::storage::cloud::{Client, Patient};

/// The client of the cloud where the stage lies, or `None` for a folder, which needs none. `read_only` says why nothing
/// may be written, if so.
///
/// # Errors
/// When the cloud's client does not like the place.
pub(super) fn build(
    place: &Place,
    lease: &Arc<Lease>,
    read_only: Option<&'static str>,
    client: &Client,
) -> Result<Option<Arc<dyn ObjectStore>>> {
    let keys = lease.clone();
    let budget = client.budget();
    let options = |endpoint: &str| client.options().with_allow_http(endpoint.starts_with("http://"));
    let store: Arc<dyn ObjectStore> = match place {
        Place::S3 {
            bucket,
            region,
            endpoint,
            is_virtual,
        } => stage(
            AmazonS3Builder::new()
                .with_bucket_name(bucket)
                .with_region(region)
                .with_endpoint(endpoint)
                .with_virtual_hosted_style_request(*is_virtual)
                .with_credentials(Arc::new(AwsKeys(keys)))
                .with_client_options(options(endpoint))
                .with_retry(client.retry())
                .with_http_connector(client.clone())
                .build()?,
            lease,
            read_only,
            budget,
        ),
        Place::Azure {
            account,
            container,
            endpoint,
        } => stage(
            MicrosoftAzureBuilder::new()
                .with_account(account)
                .with_container_name(container)
                .with_endpoint(endpoint.clone())
                .with_credentials(Arc::new(AzureKeys(keys)))
                .with_client_options(options(endpoint))
                .with_retry(client.retry())
                .with_http_connector(client.clone())
                .build()?,
            lease,
            read_only,
            budget,
        ),
        Place::Gcs {
            bucket,
            endpoint,
            is_virtual,
        } => {
            let builder = GoogleCloudStorageBuilder::new()
                .with_bucket_name(bucket)
                .with_base_url(endpoint)
                .with_credentials(Arc::new(GcsKeys(keys)))
                .with_client_options(options(endpoint))
                .with_retry(client.retry());
            let store = match is_virtual {
                true => builder.with_http_connector(BucketInHost {
                    client: client.clone(),
                    bucket: bucket.clone(),
                }),
                false => builder.with_http_connector(client.clone()),
            }
            .build()?;
            stage(store, lease, read_only, budget)
        }
        Place::Folder(_) => return Ok(None),
    };
    Ok(Some(store))
}

fn stage<S: ObjectStore + PaginatedListStore>(
    store: S,
    lease: &Arc<Lease>,
    read_only: Option<&'static str>,
    budget: Duration,
) -> Arc<dyn ObjectStore> {
    Arc::new(Patient::new(
        StageStore::new(store, lease.clone(), read_only),
        budget,
    ))
}

/// Google's client puts the bucket before the path; some networks let only hosts through that have it in their name.
#[derive(Debug)]
struct BucketInHost {
    client: Client,
    bucket: String,
}

#[derive(Debug)]
struct WithoutBucket {
    inner: HttpClient,
    bucket: String,
}

impl HttpConnector for BucketInHost {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient> {
        Ok(HttpClient::new(WithoutBucket {
            inner: self.client.connect(options)?,
            bucket: self.bucket.clone(),
        }))
    }
}

#[async_trait]
impl HttpService for WithoutBucket {
    async fn call(&self, mut request: HttpRequest) -> std::result::Result<HttpResponse, HttpError> {
        if let Some(uri) = without_bucket(request.uri(), &self.bucket) {
            *request.uri_mut() = uri;
        }
        self.inner.execute(request).await
    }
}

/// `https://bucket.host/bucket/path?query` without the second `bucket`.
fn without_bucket(uri: &http::Uri, bucket: &str) -> Option<http::Uri> {
    let rest = uri.path().strip_prefix('/')?.strip_prefix(bucket)?;
    let path = match rest.strip_prefix('/') {
        Some(path) => path,
        None if rest.is_empty() => "",
        None => return None,
    };
    let query = uri.query().map_or(String::new(), |query| format!("?{query}"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("/{path}{query}").parse().ok()?);
    http::Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_known_by_what_the_crate_calls_its_client() {
        let s3 = AmazonS3Builder::new().with_bucket_name("b").build().unwrap();
        let azure = MicrosoftAzureBuilder::new()
            .with_account("a")
            .with_container_name("c")
            .with_bearer_token_authorization("t")
            .build()
            .unwrap();
        let gcs = GoogleCloudStorageBuilder::new()
            .with_bucket_name("b")
            .with_bearer_token("t")
            .build()
            .unwrap();
        let endpoint = || "https://b.s3.amazonaws.com".to_string();
        let places = [
            Place::S3 {
                bucket: "b".into(),
                region: "r".into(),
                endpoint: endpoint(),
                is_virtual: true,
            },
            Place::Azure {
                account: "a".into(),
                container: "c".into(),
                endpoint: endpoint(),
            },
            Place::Gcs {
                bucket: "b".into(),
                endpoint: endpoint(),
                is_virtual: false,
            },
        ];
        let clients = [s3.to_string(), azure.to_string(), gcs.to_string()];
        for (place, client) in places.iter().zip(clients) {
            assert_eq!(place.root(), format!("{client} at "));
        }
    }

    #[test]
    fn the_bucket_is_named_once() {
        let cut = |uri: &str| without_bucket(&uri.parse().unwrap(), "b").map(|uri| uri.to_string());
        let host = "https://b.storage.googleapis.com";
        assert_eq!(
            cut(&format!("{host}/b/x/y%20z?a=b%2F")),
            Some(format!("{host}/x/y%20z?a=b%2F"))
        );
        assert_eq!(
            cut(&format!("{host}/b?list-type=2")),
            Some(format!("{host}/?list-type=2"))
        );
        assert_eq!(cut(&format!("{host}/bb/x")), None);
    }
}
