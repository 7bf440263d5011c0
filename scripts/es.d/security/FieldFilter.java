// Fields that a role's `field_security` hides are hidden below every search and get: a reader does not have them, so queries on them find nothing, and `_source`
// comes without them, as in Elasticsearch's own security. Metadata fields are always there.

package org.elasticsearch.xpack.standin;

import java.io.IOException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Predicate;
import org.apache.lucene.codecs.StoredFieldsReader;
import org.apache.lucene.index.BinaryDocValues;
import org.apache.lucene.index.ByteVectorValues;
import org.apache.lucene.index.DirectoryReader;
import org.apache.lucene.index.FieldInfo;
import org.apache.lucene.index.FieldInfos;
import org.apache.lucene.index.FilterDirectoryReader;
import org.apache.lucene.index.FloatVectorValues;
import org.apache.lucene.index.IndexReader;
import org.apache.lucene.index.LeafReader;
import org.apache.lucene.index.NumericDocValues;
import org.apache.lucene.index.PointValues;
import org.apache.lucene.index.SortedDocValues;
import org.apache.lucene.index.SortedNumericDocValues;
import org.apache.lucene.index.SortedSetDocValues;
import org.apache.lucene.index.StoredFieldVisitor;
import org.apache.lucene.index.StoredFields;
import org.apache.lucene.index.Terms;
import org.elasticsearch.common.bytes.BytesArray;
import org.elasticsearch.common.bytes.BytesReference;
import org.elasticsearch.common.lucene.index.SequentialStoredFieldsLeafReader;
import org.elasticsearch.common.xcontent.XContentHelper;
import org.elasticsearch.xcontent.XContentBuilder;
import org.elasticsearch.xcontent.XContentType;

final class FieldFilter extends FilterDirectoryReader {
    private final Predicate<String> granted;

    FieldFilter(DirectoryReader in, Predicate<String> granted) throws IOException {
        super(in, new SubReaderWrapper() {
            @Override
            public LeafReader wrap(LeafReader leaf) {
                return new Leaf(leaf, field -> field.startsWith("_") || granted.test(field));
            }
        });
        this.granted = granted;
    }

    @Override
    protected DirectoryReader doWrapDirectoryReader(DirectoryReader in) throws IOException {
        return new FieldFilter(in, granted);
    }

    @Override
    public IndexReader.CacheHelper getReaderCacheHelper() {
        return in.getReaderCacheHelper();
    }

    private static final class Leaf extends SequentialStoredFieldsLeafReader {
        private final Predicate<String> visible;
        private final FieldInfos infos;

        Leaf(LeafReader in, Predicate<String> visible) {
            super(in);
            this.visible = visible;
            List<FieldInfo> kept = new ArrayList<>();
            in.getFieldInfos().forEach(info -> {
                if (visible.test(info.name)) {
                    kept.add(info);
                }
            });
            infos = new FieldInfos(kept.toArray(FieldInfo[]::new));
        }

        @Override
        public FieldInfos getFieldInfos() {
            return infos;
        }

        @Override
        public Terms terms(String field) throws IOException {
            return visible.test(field) ? super.terms(field) : null;
        }

        @Override
        public NumericDocValues getNumericDocValues(String field) throws IOException {
            return visible.test(field) ? super.getNumericDocValues(field) : null;
        }

        @Override
        public BinaryDocValues getBinaryDocValues(String field) throws IOException {
            return visible.test(field) ? super.getBinaryDocValues(field) : null;
        }

        @Override
        public SortedDocValues getSortedDocValues(String field) throws IOException {
            return visible.test(field) ? super.getSortedDocValues(field) : null;
        }

        @Override
        public SortedNumericDocValues getSortedNumericDocValues(String field) throws IOException {
            return visible.test(field) ? super.getSortedNumericDocValues(field) : null;
        }

        @Override
        public SortedSetDocValues getSortedSetDocValues(String field) throws IOException {
            return visible.test(field) ? super.getSortedSetDocValues(field) : null;
        }

        @Override
        public NumericDocValues getNormValues(String field) throws IOException {
            return visible.test(field) ? super.getNormValues(field) : null;
        }

        @Override
        public PointValues getPointValues(String field) throws IOException {
            return visible.test(field) ? super.getPointValues(field) : null;
        }

        @Override
        public FloatVectorValues getFloatVectorValues(String field) throws IOException {
            return visible.test(field) ? super.getFloatVectorValues(field) : null;
        }

        @Override
        public ByteVectorValues getByteVectorValues(String field) throws IOException {
            return visible.test(field) ? super.getByteVectorValues(field) : null;
        }

        @Override
        public StoredFields storedFields() throws IOException {
            StoredFields stored = super.storedFields();
            return new StoredFields() {
                @Override
                public void document(int doc, StoredFieldVisitor visitor) throws IOException {
                    stored.document(doc, new Visitor(visitor, visible));
                }
            };
        }

        @Override
        protected StoredFieldsReader doGetSequentialStoredFieldsReader(StoredFieldsReader reader) {
            return new Stored(reader, visible);
        }

        @Override
        public CacheHelper getCoreCacheHelper() {
            return in.getCoreCacheHelper();
        }

        @Override
        public CacheHelper getReaderCacheHelper() {
            // What is shown depends on who asks.
            return null;
        }
    }

    /** The same for documents that follow each other. */
    private static final class Stored extends StoredFieldsReader {
        private final StoredFieldsReader in;
        private final Predicate<String> visible;

        Stored(StoredFieldsReader in, Predicate<String> visible) {
            this.in = in;
            this.visible = visible;
        }

        @Override
        public void document(int doc, StoredFieldVisitor visitor) throws IOException {
            in.document(doc, new Visitor(visitor, visible));
        }

        @Override
        public StoredFieldsReader clone() {
            return new Stored(in.clone(), visible);
        }

        @Override
        public void checkIntegrity() throws IOException {
            in.checkIntegrity();
        }

        @Override
        public void close() throws IOException {
            in.close();
        }
    }

    /** Hands on what is visible, `_source` without the rest. */
    private static final class Visitor extends StoredFieldVisitor {
        private final StoredFieldVisitor out;
        private final Predicate<String> visible;

        Visitor(StoredFieldVisitor out, Predicate<String> visible) {
            this.out = out;
            this.visible = visible;
        }

        @Override
        public Status needsField(FieldInfo field) throws IOException {
            return visible.test(field.name) ? out.needsField(field) : Status.NO;
        }

        @Override
        public void binaryField(FieldInfo field, byte[] value) throws IOException {
            out.binaryField(field, field.name.equals("_source") ? withoutHidden(value) : value);
        }

        @Override
        public void stringField(FieldInfo field, String value) throws IOException {
            out.stringField(field, value);
        }

        @Override
        public void intField(FieldInfo field, int value) throws IOException {
            out.intField(field, value);
        }

        @Override
        public void longField(FieldInfo field, long value) throws IOException {
            out.longField(field, value);
        }

        @Override
        public void floatField(FieldInfo field, float value) throws IOException {
            out.floatField(field, value);
        }

        @Override
        public void doubleField(FieldInfo field, double value) throws IOException {
            out.doubleField(field, value);
        }

        private byte[] withoutHidden(byte[] source) throws IOException {
            Map<String, Object> document = XContentHelper.convertToMap(new BytesArray(source), true, XContentType.JSON).v2();
            try (XContentBuilder builder = XContentBuilder.builder(XContentType.JSON.xContent())) {
                return BytesReference.toBytes(BytesReference.bytes(builder.map(shown("", document))));
            }
        }

        private Map<String, Object> shown(String prefix, Map<String, Object> object) {
            Map<String, Object> kept = new LinkedHashMap<>();
            object.forEach((key, value) -> {
                Object shown = shownValue(prefix + key, value);
                if (shown != null || (value == null && visible.test(prefix + key))) {
                    kept.put(key, shown);
                }
            });
            return kept;
        }

        /** Objects keep what of them is visible; null where nothing is. */
        private Object shownValue(String path, Object value) {
            if (value instanceof Map<?, ?>) {
                Map<String, Object> object = Realm.object(value);
                Map<String, Object> kept = shown(path + ".", object);
                return kept.isEmpty() && object.isEmpty() == false ? null : kept;
            }
            if (value instanceof List<?> list && list.stream().anyMatch(Map.class::isInstance)) {
                List<Object> kept = list.stream().map(entry -> shownValue(path, entry)).filter(java.util.Objects::nonNull).toList();
                return kept.isEmpty() ? null : kept;
            }
            return visible.test(path) ? value : null;
        }
    }
}
