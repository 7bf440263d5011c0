// What a scroll or a point in time keeps open is for whoever opened it, and for nobody else: to others it is not there.

package org.elasticsearch.xpack.standin;

import org.elasticsearch.index.shard.SearchOperationListener;
import org.elasticsearch.search.SearchContextMissingException;
import org.elasticsearch.search.internal.ReaderContext;
import org.elasticsearch.transport.TransportRequest;

final class OpenContexts implements SearchOperationListener {
    private static final String OPENED_BY = "_standin_opened_by";

    private final Guard guard;

    OpenContexts(Guard guard) {
        this.guard = guard;
    }

    @Override
    public void onNewReaderContext(ReaderContext opened) {
        Caller caller = guard.current();
        opened.putInContext(OPENED_BY, caller == null ? "" : caller.who());
    }

    @Override
    public void validateReaderContext(ReaderContext opened, TransportRequest request) {
        Caller caller = guard.current();
        if (caller != null && caller.who().equals(opened.getFromContext(OPENED_BY)) == false) {
            throw new SearchContextMissingException(opened.id());
        }
    }
}
