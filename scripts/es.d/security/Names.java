// The names in a request: those written out, and what its patterns mean to somebody who may see only some indices.

package org.elasticsearch.xpack.standin;

import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Set;
import java.util.SortedMap;
import java.util.function.Predicate;
import org.elasticsearch.action.support.IndicesOptions;
import org.elasticsearch.cluster.ClusterState;
import org.elasticsearch.cluster.metadata.IndexAbstraction;
import org.elasticsearch.cluster.metadata.IndexMetadata;
import org.elasticsearch.cluster.metadata.Metadata;
import org.elasticsearch.common.regex.Regex;
import org.elasticsearch.index.Index;

record Names(Set<String> named, Set<String> matched, boolean hadPatterns, int asked) {
    static Names of(String[] expressions, IndicesOptions options, ClusterState state, Predicate<String> visible) {
        String[] asked = expressions == null || expressions.length == 0 ? new String[] { "*" } : expressions;
        Names names = new Names(new LinkedHashSet<>(), new LinkedHashSet<>(), hasPattern(asked), asked.length);
        boolean expanded = false;
        for (String expression : asked) {
            if (expanded && expression.startsWith("-")) {
                names.matched.removeIf(name -> Regex.simpleMatch(expression.substring(1), name));
            } else if (isPattern(expression) && (options.expandWildcardsOpen() || options.expandWildcardsClosed())) {
                expanded = true;
                names.expand(expression.equals("_all") ? "*" : expression, options, state, visible);
            } else {
                names.named.add(expression);
            }
        }
        return names;
    }

    private static boolean hasPattern(String[] expressions) {
        for (String expression : expressions) {
            if (isPattern(expression)) {
                return true;
            }
        }
        return false;
    }

    private static boolean isPattern(String expression) {
        return expression.equals("_all") || expression.contains("*");
    }

    Set<String> all() {
        Set<String> all = new LinkedHashSet<>(named);
        all.addAll(matched);
        return all;
    }

    private void expand(String pattern, IndicesOptions options, ClusterState state, Predicate<String> visible) {
        Object lookup = of(state.metadata());
        for (Map.Entry<String, IndexAbstraction> entry : lookup(lookup).entrySet()) {
            IndexAbstraction found = entry.getValue();
            boolean isAlias = found.getType() == IndexAbstraction.Type.ALIAS;
            boolean hidden = found.isHidden() && options.expandWildcardsHidden() == false && (pattern.startsWith(".") && entry.getKey().startsWith(".")) == false;
            if (Regex.simpleMatch(pattern, entry.getKey()) == false || hidden || (isAlias && options.ignoreAliases()) || visible.test(entry.getKey()) == false) {
                continue;
            }
            if (isAlias || wanted(index(lookup, found.getIndices().get(0)), options)) {
                matched.add(entry.getKey());
            }
        }
    }

    private static boolean wanted(IndexMetadata index, IndicesOptions options) {
        return index.getState() == IndexMetadata.State.OPEN ? options.expandWildcardsOpen() : options.expandWildcardsClosed();
    }

    /** What holds the names: the metadata, from 9.1 on its project. */
    private static Object of(Metadata metadata) {
        try {
            return Metadata.class.getMethod("getProject").invoke(metadata);
        } catch (ReflectiveOperationException e) {
            return metadata;
        }
    }

    @SuppressWarnings("unchecked")
    private static SortedMap<String, IndexAbstraction> lookup(Object metadata) {
        return (SortedMap<String, IndexAbstraction>) call(metadata, "getIndicesLookup");
    }

    private static IndexMetadata index(Object metadata, Index index) {
        try {
            return (IndexMetadata) metadata.getClass().getMethod("index", Index.class).invoke(metadata, index);
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
    }

    private static Object call(Object target, String method) {
        try {
            return target.getClass().getMethod(method).invoke(target);
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
    }
}
