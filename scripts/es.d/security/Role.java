// A role: what it allows in the cluster and on which indices. Names of privileges and the actions behind them are Elasticsearch's (IndexPrivilege and
// ClusterPrivilegeResolver), as far as tests need them.

package org.elasticsearch.xpack.standin;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.elasticsearch.common.Strings;
import org.elasticsearch.common.regex.Regex;
import org.elasticsearch.xcontent.XContentBuilder;
import org.elasticsearch.xcontent.XContentFactory;

record Role(String name, List<String> cluster, List<Role.Group> indices, List<String> runAs) {
    static final Role SUPERUSER = new Role("superuser", List.of("all"), List.of(new Group(List.of("*"), List.of("all"), null, null, null)), List.of("*"));

    /** What one entry of `indices` allows. `query` is JSON text; `grant` and `except` are null where all fields are granted. */
    record Group(List<String> names, List<String> privileges, String query, List<String> grant, List<String> except) {
        boolean matches(String index) {
            return names.stream().anyMatch(pattern -> matches(pattern, index));
        }

        private static boolean matches(String pattern, String index) {
            if (pattern.length() > 1 && pattern.startsWith("/") && pattern.endsWith("/")) {
                return index.matches(pattern.substring(1, pattern.length() - 1));
            }
            return Regex.simpleMatch(pattern, index);
        }

        boolean allows(String action) {
            return grants(INDEX, privileges, action);
        }

        boolean limitsFields() {
            return grant != null;
        }

        boolean shows(String field) {
            return Regex.simpleMatch(grant.toArray(String[]::new), field) && Regex.simpleMatch(except.toArray(String[]::new), field) == false;
        }
    }

    private static final Map<String, List<String>> INDEX = new LinkedHashMap<>();
    private static final Map<String, List<String>> CLUSTER = new LinkedHashMap<>();

    static {
        INDEX.put("read", List.of("indices:data/read/*", "indices:admin/resolve/index"));
        INDEX.put("create_doc", List.of("indices:data/write/index", "indices:data/write/bulk*", "indices:data/write/index:op_type/create"));
        INDEX.put("create", List.of("indices:data/write/index*", "indices:data/write/bulk*"));
        INDEX.put("index", List.of("indices:data/write/index*", "indices:data/write/bulk*", "indices:data/write/update*"));
        INDEX.put("delete", List.of("indices:data/write/delete*", "indices:data/write/bulk*"));
        INDEX.put("write", List.of("indices:data/write/*", "indices:admin/mapping/auto_put"));
        INDEX.put("monitor", List.of("indices:monitor/*"));
        INDEX.put("maintenance", List.of("indices:admin/refresh*", "indices:admin/flush*", "indices:admin/synced_flush", "indices:admin/forcemerge*"));
        INDEX.put("create_index", List.of("indices:admin/create", "indices:admin/auto_create", "indices:admin/data_stream/create"));
        INDEX.put("auto_configure", List.of("indices:admin/auto_create"));
        INDEX.put("delete_index", List.of("indices:admin/delete", "indices:admin/data_stream/delete"));
        INDEX.put(
            "view_index_metadata",
            List.of(
                "indices:admin/aliases/get",
                "indices:admin/get",
                "indices:admin/mappings/fields/get*",
                "indices:admin/mappings/get",
                "indices:admin/shards/search_shards",
                "indices:admin/validate/query*",
                "indices:monitor/settings/get",
                "indices:admin/data_stream/get",
                "indices:admin/resolve/index",
                "indices:data/read/field_caps*"
            )
        );
        INDEX.put("manage", List.of("indices:monitor/*", "indices:admin/*", "indices:data/read/field_caps*"));
        INDEX.put("all", List.of("*"));
        CLUSTER.put("monitor", List.of("cluster:monitor/*"));
        CLUSTER.put("manage_index_templates", List.of("indices:admin/template/*", "indices:admin/index_template/*", "cluster:admin/component_template/*"));
        CLUSTER.put("manage", List.of("cluster:*", "indices:admin/template/*", "indices:admin/index_template/*"));
        CLUSTER.put("all", List.of("*"));
    }

    static Role parse(String name, Map<String, Object> role) {
        List<Group> groups = new ArrayList<>();
        for (Object entry : role.get("indices") instanceof List<?> list ? list : List.of()) {
            Map<String, Object> group = Realm.object(entry);
            Map<String, Object> fields = Realm.object(group.get("field_security"));
            boolean limited = fields.isEmpty() == false;
            groups.add(
                new Group(
                    Realm.strings(group.get("names")),
                    Realm.strings(group.get("privileges")),
                    query(group.get("query")),
                    limited ? Realm.strings(fields.get("grant")) : null,
                    limited ? Realm.strings(fields.get("except")) : null
                )
            );
        }
        return new Role(name, Realm.strings(role.get("cluster")), groups, Realm.strings(role.get("run_as")));
    }

    /** A query is given as an object or as text, and kept as text. */
    private static String query(Object query) {
        if (query instanceof Map<?, ?> map) {
            try (XContentBuilder builder = XContentFactory.jsonBuilder()) {
                return Strings.toString(builder.map(Realm.object(map)));
            } catch (java.io.IOException e) {
                throw new java.io.UncheckedIOException(e);
            }
        }
        return query == null ? null : query.toString();
    }

    boolean runsAs(String user) {
        return Regex.simpleMatch(runAs.toArray(String[]::new), user);
    }

    boolean allowsInCluster(String action) {
        return grants(CLUSTER, cluster, action);
    }

    /** Privileges that grant an action, as Elasticsearch lists them in a refusal. */
    static List<String> granting(boolean inCluster, String action) {
        Map<String, List<String>> known = inCluster ? CLUSTER : INDEX;
        return known.keySet().stream().filter(name -> grants(known, List.of(name), action)).toList();
    }

    /** Whether the privilege `wanted` is among those held, or part of one of them. */
    static boolean implies(boolean inCluster, List<String> held, String wanted) {
        Map<String, List<String>> known = inCluster ? CLUSTER : INDEX;
        List<String> patterns = known.getOrDefault(wanted, List.of(wanted));
        return patterns.stream().allMatch(pattern -> grants(known, held, pattern));
    }

    /** A privilege is a name of the table or itself a pattern of actions. */
    private static boolean grants(Map<String, List<String>> known, List<String> privileges, String action) {
        for (String privilege : privileges) {
            for (String pattern : known.getOrDefault(privilege, List.of(privilege))) {
                if (Regex.simpleMatch(pattern, action)) {
                    return true;
                }
            }
        }
        return false;
    }
}
