//! Passing through: the request streams to Elasticsearch and its response streams back. Nothing is
//! parsed, nothing is buffered beyond one chunk in each direction.

use http::Response;

use crate::body::ResponseBody;
use crate::proxy::{ClientRequest, Reply, Worker};
use crate::telemetry::Served;
use crate::upstream::{UpstreamBody, strip_hop_by_hop};

/// Passes a request as it is.
pub(crate) async fn through(worker: &Worker, request: ClientRequest, served: Served) -> Reply {
    match send(worker, request).await {
        Ok(response) => (relay(response), served),
        Err(reply) => reply,
    }
}

/// Sends a request; where Elasticsearch gives no response, the error is ours.
pub(crate) async fn send(
    worker: &Worker,
    request: ClientRequest,
) -> Result<Response<Box<UpstreamBody>>, Reply> {
    // Only needed when Elasticsearch does not answer: for `X-Opaque-Id` on our own error.
    let opaque_id = request.parts.headers.get("x-opaque-id").cloned();
    worker.send(request).await.map_err(|failure| {
        let headers =
            opaque_id.map(|id| (http::HeaderName::from_static("x-opaque-id"), id)).into_iter().collect();
        worker.failed(&headers, &failure)
    })
}

/// Elasticsearch's response on its way to the client.
pub(crate) fn relay(response: Response<Box<UpstreamBody>>) -> Response<ResponseBody> {
    let mut response = response.map(ResponseBody::Upstream);
    strip_hop_by_hop(response.headers_mut());
    response
}
