// Who exists and what they may do, read from one JSON file; read again whenever the file has changed, so that a test can revoke a right while the node runs.
//
//   {"users":    {"alice": {"password": "…", "roles": ["reader"], "metadata": {…}, "enabled": false}},
//    "roles":    {"reader": {"cluster": ["monitor"], "run_as": ["bob"], "indices": [{"names": ["a*"], "privileges": ["read"],
//                            "query": {"term": {"tag": "x"}}, "field_security": {"grant": ["*"], "except": ["secret"]}}]}},
//    "api_keys": {"ID": {"key": "…", "name": "…", "owner": "alice", "role_descriptors": {"any name": {a role}}}},
//    "tokens":   {"TOKEN": "alice"}}
//
// Roles are written as in Elasticsearch's own API of roles. The role `superuser` is there without being written.

package org.elasticsearch.xpack.standin;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import org.elasticsearch.common.xcontent.XContentHelper;
import org.elasticsearch.xcontent.XContentType;

final class Realm {
    private final Path file;
    private State state;

    /** What the file said when it was last read. */
    private record State(FileTime changed, Map<String, Object> content) {}

    /** Why nobody was authenticated; the text is for the client. */
    static final class Refused extends Exception {
        Refused(String reason) {
            super(reason);
        }
    }

    Realm(Path file) {
        this.file = file;
    }

    private synchronized Map<String, Object> content() {
        try {
            FileTime changed = Files.getLastModifiedTime(file);
            if (state == null || state.changed.equals(changed) == false) {
                state = new State(changed, XContentHelper.convertToMap(XContentType.JSON.xContent(), Files.readString(file), true));
            }
            return state.content;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** The caller that these headers name; `what` ends the texts of refusals. */
    Caller authenticate(String authorization, String runAs, String what) throws Refused {
        if (authorization == null) {
            throw new Refused("missing authentication credentials for " + what);
        }
        Caller caller = real(authorization, what);
        return runAs == null || runAs.isEmpty() ? caller : runAs(caller, runAs, what);
    }

    private Caller real(String authorization, String what) throws Refused {
        String[] parts = authorization.trim().split(" +", 2);
        String value = parts.length == 2 ? parts[1].trim() : "";
        return switch (parts[0].toLowerCase(java.util.Locale.ROOT)) {
            case "basic" -> byPassword(decoded(value), what);
            case "apikey" -> byKey(decoded(value), what);
            case "bearer" -> byToken(value, what);
            default -> throw new Refused("missing authentication credentials for " + what);
        };
    }

    private static String decoded(String base64) {
        try {
            return new String(Base64.getDecoder().decode(base64), StandardCharsets.UTF_8);
        } catch (IllegalArgumentException e) {
            return "";
        }
    }

    private Caller byPassword(String pair, String what) throws Refused {
        int colon = pair.indexOf(':');
        String name = colon < 0 ? pair : pair.substring(0, colon);
        Map<String, Object> user = object(section("users").get(name));
        if (user.isEmpty() || Boolean.FALSE.equals(user.get("enabled")) || colon < 0 || pair.substring(colon + 1).equals(user.get("password")) == false) {
            throw new Refused("unable to authenticate user [" + name + "] for " + what);
        }
        return user(name, user, "realm");
    }

    private Caller byToken(String token, String what) throws Refused {
        Object name = section("tokens").get(token);
        if (name == null) {
            throw new Refused("unable to authenticate with provided credentials and anonymous access is not allowed for this request");
        }
        return user(name.toString(), object(section("users").get(name.toString())), "token");
    }

    private Caller byKey(String pair, String what) throws Refused {
        int colon = pair.indexOf(':');
        Map<String, Object> key = colon < 0 ? Map.of() : object(section("api_keys").get(pair.substring(0, colon)));
        if (key.isEmpty() || pair.substring(colon + 1).equals(key.get("key")) == false) {
            throw new Refused("unable to authenticate with provided credentials and anonymous access is not allowed for this request");
        }
        String id = pair.substring(0, colon);
        String owner = String.valueOf(key.get("owner"));
        Caller limit = user(owner, object(section("users").get(owner)), "realm");
        List<Role> own = new ArrayList<>();
        object(key.get("role_descriptors")).forEach((name, role) -> own.add(Role.parse(name, object(role))));
        List<List<Role>> allOf = new ArrayList<>(limit.allOf());
        if (own.isEmpty() == false) {
            allOf.add(own);
        }
        return new Caller(owner, List.of(), limit.metadata(), "api_key", id, String.valueOf(key.get("name")), own.isEmpty() == false, null, allOf);
    }

    private Caller runAs(Caller real, String name, String what) throws Refused {
        boolean allowed = real.allOf().stream().allMatch(roles -> roles.stream().anyMatch(role -> role.runsAs(name)));
        Map<String, Object> user = object(section("users").get(name));
        if (allowed == false || user.isEmpty()) {
            throw new Denied("action [run_as] is unauthorized for user [" + real.username() + "] run as [" + name + "]");
        }
        Caller other = user(name, user, real.type());
        return new Caller(name, other.roles(), other.metadata(), real.type(), null, null, false, real.username(), other.allOf());
    }

    /** Known, but not allowed: 403. */
    static final class Denied extends RuntimeException {
        Denied(String reason) {
            super(reason);
        }
    }

    private Caller user(String name, Map<String, Object> user, String type) {
        List<String> names = strings(user.get("roles"));
        List<Role> roles = new ArrayList<>();
        for (String role : names) {
            if (role.equals("superuser")) {
                roles.add(Role.SUPERUSER);
            } else if (section("roles").get(role) != null) {
                roles.add(Role.parse(role, object(section("roles").get(role))));
            }
        }
        return new Caller(name, names, object(user.get("metadata")), type, null, null, false, null, List.of(roles));
    }

    private Map<String, Object> section(String name) {
        return object(content().get(name));
    }

    @SuppressWarnings("unchecked")
    static Map<String, Object> object(Object value) {
        return value instanceof Map<?, ?> map ? (Map<String, Object>) map : Map.of();
    }

    static List<String> strings(Object value) {
        return value instanceof List<?> list ? list.stream().map(String::valueOf).toList() : List.of();
    }

    /** Sorted, as Elasticsearch prints names. */
    static List<String> sorted(Iterable<String> names) {
        TreeSet<String> all = new TreeSet<>();
        names.forEach(all::add);
        return List.copyOf(all);
    }
}
