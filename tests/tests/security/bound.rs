//! A tenant that is known by its user and bound to indices: Elasticsearch would let this one do anything.

use outrigger_tests::{Elasticsearch, Outrigger, Vectors};
use serde_json::json;

use crate::principals::{password, security};
use crate::{DIMS, document, mapping};

const CONFIG: &str = "[tenants.acme]\nusers = ['elastic']\nbound_to = ['docs*']\n";

#[tokio::test]
async fn bound_tenants() {
    let elasticsearch = Elasticsearch::start_secured("security-bound", &security()).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (secret, config, audit) = (path("own-credentials"), path("outrigger.toml"), path("audit.json"));
    std::fs::write(&secret, "sidecar:sidecar-password").unwrap();
    std::fs::write(&config, CONFIG).unwrap();
    let admin = elasticsearch.anonymous().as_user("elastic", password("elastic"));
    let mut vectors = Vectors::new(7, DIMS);
    let flags = ["--upstream-auth-file", &secret, "--config", &config, "--audit-log", &audit];
    let outrigger = Outrigger::start_with(elasticsearch.url(), &folder.path().join("data"), &flags).await;
    let bound = outrigger.api().as_user("elastic", password("elastic"));
    let ann = outrigger.api().as_user("ann", password("ann"));

    assert_eq!(bound.put("/other", mapping()).await.status, 403);
    // Its aliases lie outside.
    assert_eq!(bound.put("/docs", mapping()).await.status, 403);
    let mut without_aliases = mapping();
    without_aliases.as_object_mut().unwrap().remove("aliases");
    bound.put("/docs", without_aliases).await.ok();
    admin.put("/docs/_alias/shelf", json!({})).await.ok();
    let docs: Vec<_> = (0..20).map(|n| (n.to_string(), document(n, &vectors.draw()))).collect();
    bound.bulk("docs", "true", &docs).await.unwrap().ok();
    outrigger.learnt_by(&bound, "docs").await;

    // What others were shown and what was kept for them makes no difference to what this one may ask.
    let query = vectors.draw();
    let search = json!({"knn": {"field": "v", "query_vector": query, "k": 5, "num_candidates": 50}});
    let shown = ann.post("/docs/_search", search.clone()).await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    let own = bound.post("/docs/_search", search.clone()).await;
    assert_eq!((own.status, own.ids()), (200, shown.ids()), "{}", own.text);
    for target in ["/shelf/_search", "/other/_search", "/_search", "/docs,other/_search"] {
        let refused = bound.post(target, search.clone()).await;
        assert_eq!(refused.status, 403, "{target}: {}", refused.text);
        assert!(refused.text.contains("tenant [acme] is bound to [docs*]"), "{}", refused.text);
    }
    assert_ne!(admin.post("/shelf/_search", search.clone()).await.status, 403, "Elasticsearch alone lets it");

    // Credentials of two callers make nobody else of it, and nothing is answered meanwhile.
    let second = bound.with_header("es-secondary-authorization", "Basic YW5uOng=");
    let refused = second.post("/shelf/_search", search).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    assert!(refused.text.contains("not clear who sends the request"), "{}", refused.text);

    outrigger.terminate();
    let log = std::fs::read_to_string(&audit).unwrap();
    let of = |tenant: &str, user: &str, action: &str| {
        let parts = [
            format!(r#""tenant":"{tenant}""#),
            format!(r#""user.name":"{user}""#),
            format!(r#""event.action":"{action}""#),
        ];
        log.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    };
    assert_eq!(of("acme", "elastic", "refused"), 6, "{log}");
    assert!(of("default", "ann", "answered") >= 1 && of("acme", "elastic", "answered") >= 1, "{log}");
    assert!(!log.contains(password("elastic")), "{log}");
}
