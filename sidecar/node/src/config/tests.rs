//! The configuration as a whole: what is printed, what is refused, what stays secret, what wins.

use clap::Args;

use super::{Config, Layer};

fn load(text: &str) -> anyhow::Result<Config> {
    Config::from_layer(toml::from_str(text)?)
}

#[test]
fn what_is_printed_can_be_read_and_says_the_same() {
    let config = load(
        "listen = '127.0.0.1:1'\nmode = 'shadow'\nmax_body = '3mb'\nlog = 'warn'\n\
        audit_log = '/var/log/audit.json'\naudit_events = 'passed,changed'",
    )
    .unwrap();
    let printed = config.to_string();
    assert_eq!(load(&printed).unwrap().to_string(), printed);
    assert!(printed.contains("max_body = \"3mb\""), "{printed}");
}

#[test]
fn every_setting_is_printed() {
    let text = r#"
        listen = "127.0.0.1:1"
        advertise = "es.example:443"
        advertise_nodes = "es-2=b:9201,self"
        upstream = "http://127.0.0.1:2"
        allow_insecure = true
        data_dir = "somewhere"
        admin_listen = "127.0.0.1:3"
        mode = "shadow"
        security = "on"
        identity_ttl = "7s"
        identity_cache = 7
        mapping_unspecified = "elasticsearch"
        mapping_adopt = "vec-*,-vec-old*"
        allow_version = "9.3,10.0.1"
        workers = 3
        max_connections = 7
        max_body = "3mb"
        max_initial_line = "7kb"
        max_header = "7kb"
        intercept_memory = "7mb"
        client_head_timeout = "7s"
        client_body_timeout = "7s"
        client_write_timeout = "7s"
        document_cache = "7mb"
        filter_memory = "7mb"
        write_memory = "7mb"
        memory_budget = "7gb"
        hold_memory = "7mb"
        connect_timeout = "7s"
        response_timeout = "7s"
        publish_timeout = "7s"
        drain_timeout = "7s"
        max_in_flight = 7
        passed_knn_concurrency = 7
        passed_knn_wait = "7s"
        passed_knn_vectors_per_second = 7
        tenant_header = "x-customer"
        tenant_header_from = "10.0.0.0/8"
        tenants_interval = "7s"
        usage_interval = "7s"
        catalog_interval = "7s"
        feed_interval = "7s"
        strict = "vec-*"
        build_rate = 7
        snapshot_interval = "7s"
        log = "warn"
        audit_log = "/var/log/audit.json"
        audit_events = "passed,changed"
        log_format = "text"
    "#;
    let printed = load(text).unwrap().to_string();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        assert!(printed.lines().any(|printed| printed == line), "{line} is not in\n{printed}");
    }
    // Secrets are masked, and those of TLS have a test of their own.
    let elsewhere = |name: &str| {
        name == "config"
            || name.starts_with("tls_")
            || name.starts_with("upstream_")
            || name.starts_with("admin_t")
    };
    let settings = Layer::augment_args(clap::Command::new("all"));
    for setting in settings.get_arguments().map(|argument| argument.get_id().as_str()) {
        assert!(elsewhere(setting) || text.contains(&format!("{setting} = ")), "{setting} is missing above");
    }
}

#[test]
fn what_is_open_on_purpose_may_be() {
    for text in [
        "listen = '0.0.0.0:9201'\nallow_insecure = true",
        "listen = '[::1]:9201'",
        "listen = '[::ffff:127.0.0.1]:1'",
    ] {
        load(text).unwrap();
    }
    // What holds for one address is not written down for another.
    assert!(!load("").unwrap().to_string().contains("allow_insecure"));
}

#[test]
fn tenants_are_tables_of_the_file() {
    let text = r#"
        tenant_header_from = "10.0.0.0/8, 192.168.1.7"
        [tenants.acme]
        users = ["alice"]
        indices = ["acme-*"]
        weight = 2
        [tenants.acme.limits.search]
        requests_per_second = 100
        wait = "250ms"
        [tenants.acme.quotas]
        vector_bytes = "1gb"
        [unverified.other]
        requests_per_second = 0.5
    "#;
    let config = load(text).unwrap();
    let acme = config.proxy.tenants.get("acme").unwrap();
    assert_eq!(acme.spec().weight, Some(2));
    let printed = config.to_string();
    assert_eq!(load(&printed).unwrap().to_string(), printed);
    for line in [
        "requests_per_second = 100",
        "wait = \"250ms\"",
        "10.0.0.0/8,192.168.1.7/32",
        "vector_bytes = \"1gb\"",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
}

#[test]
fn what_nodes_are_shown_with_and_which_versions_are_allowed_is_printed() {
    let config = load(
        "advertise = 'es.example:443'\nadvertise_nodes = 'es-2=b:9201,self'\nallow_version = '9.3, 10.0.1'",
    );
    let printed = config.unwrap().to_string();
    assert_eq!(load(&printed).unwrap().to_string(), printed);
    for line in [
        "advertise = \"es.example:443\"",
        "advertise_nodes = \"es-2=b:9201,self\"",
        "allow_version = \"9.3,10.0.1\"",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
}

#[test]
fn secrets_are_masked() {
    let printed = load("upstream_auth = 'feed:hunter2'").unwrap().to_string();
    assert!(printed.contains("feed") && !printed.contains("hunter2"), "{printed}");
    let layer: Layer = toml::from_str("upstream_auth = 'feed:hunter2'").unwrap();
    assert!(!format!("{layer:?}").contains("hunter2"));
}

#[test]
fn secrets_are_not_in_errors() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outrigger.toml");
    for text in [
        "workers = 1\nupstream_auth = feed:hunter2\n",
        "upstream_auth = 'hunter2",
        "upstream_auth = 'hunter2'",
        "upstream_auth = ['hunter2']",
        "upstream = 'http://feed:hunter2@localhost:9200'",
    ] {
        std::fs::write(&file, text).unwrap();
        let flags = Layer { config: Some(file.clone()), ..Layer::default() };
        let message =
            format!("{:#}", Config::load(flags).err().unwrap_or_else(|| panic!("{text} was taken")));
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn wrong_settings_are_named() {
    for (text, named) in [
        ("listn = 'x'", "listn"),
        ("upstream = 'localhost:9200'", "upstream"),
        ("listen = '127.0.0.1:9200'", "circles"),
        ("upstream = 'http://es-1:9200,http://localhost:9201'", "circles"),
        ("listen = '[::1]:9205'\nupstream = 'http://[::1]:9205'", "circles"),
        ("listen = '0.0.0.0:9200'\nallow_insecure = true", "circles"),
        ("upstream = 'http://es-1:92000'", "65535"),
        ("admin_listen = '0.0.0.0:9211'", "admin_token_file"),
        ("listen = '0.0.0.0:9201'", "--allow-insecure"),
        ("listen = '[::]:9201'", "tls_certificate"),
        ("listen = '[::]:9201'\nallow_insecure = false", "tls_certificate"),
        ("allow_insecure = false", "plain HTTP to 127.0.0.1:9201"),
        ("admin_listen = '127.0.0.1:9201'", "two ports"),
        ("workers = 0", "workers"),
        ("max_in_flight = 0", "max_in_flight"),
        ("mode = 'off'", "serve, shadow, pass"),
        ("advertise = 'somewhere'", "host:9201"),
        ("advertise_nodes = 'all'", "beside, self, keep"),
        ("allow_version = 'any'", "9.3"),
        ("response_timeout = '0s'", "response_timeout"),
        ("audit_events = 'everything'", "refused, answered"),
        ("identity_ttl = '0s'", "identity_ttl"),
        ("identity_cache = 0", "identity_cache"),
        ("usage_interval = '0s'", "usage_interval"),
        ("client_head_timeout = '0s'", "client_head_timeout"),
        ("max_initial_line = '1mb'", "max_initial_line"),
        ("max_header = '0kb'", "max_header"),
        ("upstream_auth = 'secret'", "user:password"),
        ("tenant_header_from = '10.0.0.0/99'", "10.0.0.0/99"),
        ("[tenants.a.quotas]\nindices = 5", "tenants.a: [quotas]"),
        ("tenant_header = 'a b'", "a b"),
        ("[tenants.Acme]", "Acme"),
        ("[tenants.a]\nuser = ['x']", "user"),
        ("[tenants.a]\ncertificates = ['x']", "tls_client_auth"),
        ("[tenants.a]\nusers = ['x']\n[tenants.b]\nusers = ['x']", "tenant [a]"),
        ("[unverified.knn]\nrequests_per_second = 0", "requests_per_second"),
    ] {
        let message = format!("{:#}", load(text).err().unwrap_or_else(|| panic!("{text} was taken")));
        assert!(message.contains(named), "{text}: {message}");
    }
}

#[test]
fn flags_win_over_the_file() {
    let flags = Layer { workers: Some(3), ..Layer::default() };
    let file: Layer = toml::from_str("workers = 5\nmax_connections = 7").unwrap();
    let config = Config::from_layer(flags.over(file)).unwrap();
    assert_eq!((config.proxy.workers, config.proxy.max_connections), (3, 7));
}
