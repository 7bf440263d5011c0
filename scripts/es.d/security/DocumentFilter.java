// Documents that a role's `query` hides are hidden below every search, get and count: each shard's reader shows only those that match, as in Elasticsearch's own
// security. By which name the index was reached decides which roles count, so an alias may show more or less than its index.

package org.elasticsearch.xpack.standin;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Predicate;
import java.util.function.Supplier;
import org.apache.lucene.codecs.StoredFieldsReader;
import org.apache.lucene.index.DirectoryReader;
import org.apache.lucene.index.FilterDirectoryReader;
import org.apache.lucene.index.IndexReader;
import org.apache.lucene.index.LeafReader;
import org.apache.lucene.index.NumericDocValues;
import org.apache.lucene.search.BooleanClause;
import org.apache.lucene.search.BooleanQuery;
import org.apache.lucene.search.DocIdSetIterator;
import org.apache.lucene.search.IndexSearcher;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.ScoreMode;
import org.apache.lucene.search.Scorer;
import org.apache.lucene.util.Bits;
import org.apache.lucene.util.FixedBitSet;
import org.elasticsearch.common.lucene.index.SequentialStoredFieldsLeafReader;
import org.elasticsearch.common.util.concurrent.ThreadContext;
import org.elasticsearch.core.CheckedFunction;
import org.elasticsearch.index.IndexService;
import org.elasticsearch.index.query.AbstractQueryBuilder;
import org.elasticsearch.index.query.QueryBuilder;
import org.elasticsearch.index.query.Rewriteable;
import org.elasticsearch.index.query.SearchExecutionContext;
import org.elasticsearch.index.shard.ShardUtils;
import org.elasticsearch.xcontent.XContentParser;
import org.elasticsearch.xcontent.XContentType;

final class DocumentFilter implements CheckedFunction<DirectoryReader, DirectoryReader, IOException> {
    private final Guard guard;
    private final Supplier<ThreadContext> context;
    private final IndexService index;

    DocumentFilter(Guard guard, Supplier<ThreadContext> context, IndexService index) {
        this.guard = guard;
        this.context = context;
        this.index = index;
    }

    @Override
    public DirectoryReader apply(DirectoryReader reader) throws IOException {
        Caller caller = guard.current();
        if (caller == null) {
            return reader;
        }
        List<String> names = names();
        List<List<String>> queries = caller.documents(names);
        // A role's query may rest on a field that the role hides.
        DirectoryReader documents = queries.isEmpty() ? reader : new Limited(reader, together(queries, ShardUtils.extractShardId(reader).id()));
        Predicate<String> fields = caller.fields(names);
        return fields == null ? documents : new FieldFilter(documents, fields);
    }

    /** Names by which the caller reached this index; where they are not known, its own. */
    private List<String> names() {
        String own = index.getMetadata().getIndex().getName();
        Set<String> aliases = index.getMetadata().getAliases().keySet();
        String header = context.get().getHeader(Guard.NAMES);
        List<String> names = new ArrayList<>();
        for (String name : header == null ? new String[0] : header.split(",")) {
            if (name.equals(own) || aliases.contains(name)) {
                names.add(name);
            }
        }
        return names.isEmpty() ? List.of(own) : names;
    }

    private Query together(List<List<String>> allOf, int shard) throws IOException {
        SearchExecutionContext searches = index.newSearchExecutionContext(shard, 0, null, System::currentTimeMillis, null, Map.of());
        BooleanQuery.Builder all = new BooleanQuery.Builder();
        for (List<String> anyOf : allOf) {
            BooleanQuery.Builder any = new BooleanQuery.Builder();
            for (String text : anyOf) {
                any.add(parsed(text, searches), BooleanClause.Occur.SHOULD);
            }
            all.add(any.build(), BooleanClause.Occur.FILTER);
        }
        return all.build();
    }

    private static Query parsed(String text, SearchExecutionContext searches) throws IOException {
        try (XContentParser parser = XContentType.JSON.xContent().createParser(searches.getParserConfig(), text)) {
            QueryBuilder builder = AbstractQueryBuilder.parseTopLevelQuery(parser);
            return searches.toQuery(Rewriteable.rewrite(builder, searches)).query();
        }
    }

    private static final class Limited extends FilterDirectoryReader {
        private final Query query;

        Limited(DirectoryReader in, Query query) throws IOException {
            super(in, new SubReaderWrapper() {
                @Override
                public LeafReader wrap(LeafReader leaf) {
                    try {
                        return new LimitedLeaf(leaf, shown(leaf, query));
                    } catch (IOException e) {
                        throw new java.io.UncheckedIOException(e);
                    }
                }
            });
            this.query = query;
        }

        @Override
        protected DirectoryReader doWrapDirectoryReader(DirectoryReader in) throws IOException {
            return new Limited(in, query);
        }

        @Override
        public IndexReader.CacheHelper getReaderCacheHelper() {
            return in.getReaderCacheHelper();
        }
    }

    /** Live documents that match, with their nested ones, which stand before them and have no term of a primary. */
    private static FixedBitSet shown(LeafReader leaf, Query query) throws IOException {
        IndexSearcher searcher = new IndexSearcher(leaf);
        searcher.setQueryCache(null);
        Scorer scorer = searcher.createWeight(searcher.rewrite(query), ScoreMode.COMPLETE_NO_SCORES, 1f).scorer(leaf.getContext());
        FixedBitSet matching = new FixedBitSet(leaf.maxDoc());
        if (scorer != null) {
            DocIdSetIterator documents = scorer.iterator();
            for (int doc = documents.nextDoc(); doc != DocIdSetIterator.NO_MORE_DOCS; doc = documents.nextDoc()) {
                matching.set(doc);
            }
        }
        FixedBitSet shown = new FixedBitSet(leaf.maxDoc());
        NumericDocValues roots = leaf.getNumericDocValues("_primary_term");
        Bits live = leaf.getLiveDocs();
        int begin = 0;
        for (int root = roots == null ? DocIdSetIterator.NO_MORE_DOCS : roots.nextDoc(); root != DocIdSetIterator.NO_MORE_DOCS; root = roots.nextDoc()) {
            if (matching.get(root) && (live == null || live.get(root))) {
                shown.set(begin, root + 1);
            }
            begin = root + 1;
        }
        return shown;
    }

    private static final class LimitedLeaf extends SequentialStoredFieldsLeafReader {
        private final FixedBitSet shown;
        private final int count;

        LimitedLeaf(LeafReader in, FixedBitSet shown) {
            super(in);
            this.shown = shown;
            this.count = shown.cardinality();
        }

        @Override
        public Bits getLiveDocs() {
            return shown;
        }

        @Override
        public int numDocs() {
            return count;
        }

        @Override
        public boolean hasDeletions() {
            return true;
        }

        @Override
        protected StoredFieldsReader doGetSequentialStoredFieldsReader(StoredFieldsReader reader) {
            return reader;
        }

        @Override
        public CacheHelper getCoreCacheHelper() {
            return in.getCoreCacheHelper();
        }

        @Override
        public CacheHelper getReaderCacheHelper() {
            // Which documents are shown depends on who asks.
            return null;
        }
    }
}
