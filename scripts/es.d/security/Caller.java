// Somebody who was authenticated. What he may do must be allowed by every list of roles in `allOf`: a user has one, an API key its own and its owner's.

package org.elasticsearch.xpack.standin;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.function.Predicate;
import org.elasticsearch.ElasticsearchSecurityException;
import org.elasticsearch.rest.RestStatus;

record Caller(
    String username,
    List<String> roles,
    Map<String, Object> metadata,
    String type,
    String keyId,
    String keyName,
    boolean hasOwnRoles,
    String runBy,
    List<List<Role>> allOf
) {
    boolean mayInCluster(String action) {
        return allOf.stream().allMatch(roles -> roles.stream().anyMatch(role -> role.allowsInCluster(action)));
    }

    /** Whether the action is allowed on what has this name, be it an index or an alias. */
    boolean may(String action, String name) {
        return groups(name).stream().allMatch(groups -> groups.stream().anyMatch(group -> group.allows(action)));
    }

    boolean has(String privilege, String name) {
        return groups(name).stream().allMatch(groups -> {
            List<String> held = groups.stream().flatMap(group -> group.privileges().stream()).toList();
            return Role.implies(false, held, privilege);
        });
    }

    boolean hasInCluster(String privilege) {
        return allOf.stream().allMatch(roles -> Role.implies(true, roles.stream().flatMap(role -> role.cluster().stream()).toList(), privilege));
    }

    private List<List<Role.Group>> groups(String name) {
        return allOf.stream().map(roles -> roles.stream().flatMap(role -> role.indices().stream()).filter(group -> group.matches(name)).toList()).toList();
    }

    /** Which documents of an index that was reached by these names may be read: one query of each inner list must match. Empty: all. */
    List<List<String>> documents(Collection<String> names) {
        List<List<String>> allOfThese = new ArrayList<>();
        for (List<Role> roles : allOf) {
            List<Role.Group> groups = reading(roles, names);
            // Whoever may not read, but may do this, is not limited by what he may read.
            if (groups.isEmpty() == false && groups.stream().noneMatch(group -> group.query() == null)) {
                allOfThese.add(groups.stream().map(Role.Group::query).toList());
            }
        }
        return allOfThese;
    }

    /** Which fields may be seen of an index that was reached by these names: some group of each list must grant it. Null: all. */
    Predicate<String> fields(Collection<String> names) {
        List<List<Role.Group>> limiting = new ArrayList<>();
        for (List<Role> roles : allOf) {
            List<Role.Group> groups = reading(roles, names);
            if (groups.isEmpty() == false && groups.stream().allMatch(Role.Group::limitsFields)) {
                limiting.add(groups);
            }
        }
        return limiting.isEmpty() ? null : field -> limiting.stream().allMatch(groups -> groups.stream().anyMatch(group -> group.shows(field)));
    }

    private static List<Role.Group> reading(List<Role> roles, Collection<String> names) {
        List<Role.Group> found = new ArrayList<>();
        for (Role role : roles) {
            for (Role.Group group : role.indices()) {
                if (group.allows("indices:data/read/search") && names.stream().anyMatch(group::matches)) {
                    found.add(group);
                }
            }
        }
        return found;
    }

    /** Tells callers apart. */
    String who() {
        return keyId == null ? "user " + username : "key " + keyId;
    }

    private String described() {
        if (keyId != null) {
            return "API key id [" + keyId + "] of user [" + username + "]";
        }
        String who = runBy == null ? "user [" + username + "]" : "user [" + runBy + "] run as [" + username + "]";
        return who + " with effective roles [" + String.join(",", Realm.sorted(roles)) + "]";
    }

    ElasticsearchSecurityException denied(String action, boolean inCluster, Collection<String> names) {
        String on = inCluster || names.isEmpty() ? "" : " on indices [" + String.join(",", names) + "]";
        String kind = inCluster ? "cluster" : "index";
        String granting = String.join(",", Role.granting(inCluster, action));
        String text = "action [" + action + "] is unauthorized for " + described() + on + ", this action is granted by the " + kind + " privileges [" + granting + "]";
        return new ElasticsearchSecurityException(text, RestStatus.FORBIDDEN);
    }
}
