"""elasticsearch-haystack: the embedding and the BM25 retriever, filters, overwriting, deletion."""

from conftest import embed, same, texts
from haystack import Document
from haystack.document_stores.types import DuplicatePolicy
from haystack_integrations.components.retrievers.elasticsearch import ElasticsearchBM25Retriever, ElasticsearchEmbeddingRetriever
from haystack_integrations.document_stores.elasticsearch import ElasticsearchDocumentStore


def stores(sides):
    documents = [Document(id=str(n), content=text, embedding=embed(text), meta={"topic": text.split()[0], "n": n}) for n, text in enumerate(texts())]
    made = []
    for url, index in ((sides.outrigger, sides.ours), (sides.direct, sides.twin)):
        store = ElasticsearchDocumentStore(hosts=url, index=index)
        store.write_documents(documents, refresh=True)
        if not made:
            sides.make_twin()
        made.append(store)
    sides.settle()
    return made


def found(documents):
    return [((document.id, document.content, tuple(document.embedding or ())), document.score) for document in documents]


def retrieved(store, text, **options):
    retriever = ElasticsearchEmbeddingRetriever(document_store=store, num_candidates=400, **options)
    return found(retriever.run(query_embedding=embed(text))["documents"])


def test_the_embedding_retriever(sides):
    made = stores(sides)
    before = sides.served()
    for text in ("harbour", "kitchen note 12"):
        for top_k in (1, 10, 60):
            same(*(retrieved(store, text, top_k=top_k) for store in made))
    assert sides.served() - before >= 6, "Outrigger served none itself"


def test_filters(sides):
    made = stores(sides)
    for _ in range(2):
        for wanted in (
            {"field": "meta.topic", "operator": "==", "value": "library"},
            {"operator": "AND", "conditions": [{"field": "meta.n", "operator": ">=", "value": 30}, {"field": "meta.topic", "operator": "in", "value": ["airport", "harbour"]}]},
            {"operator": "NOT", "conditions": [{"field": "meta.topic", "operator": "==", "value": "mountain"}]},
        ):
            same(*(retrieved(store, "mountain", top_k=8, filters=wanted) for store in made))


def test_text(sides):
    made = stores(sides)
    same(*(found(ElasticsearchBM25Retriever(document_store=store).run(query="kitchen 7")["documents"]) for store in made))


def test_writing_again_and_deletion(sides):
    made = stores(sides)
    for store in made:
        store.write_documents([Document(id="3", content="airport library", embedding=embed("airport library"))], policy=DuplicatePolicy.OVERWRITE, refresh=True)
        store.delete_documents(["4", "9"], refresh=True)
        assert store.count_documents() == len(texts()) - 2
    same(*(retrieved(store, "airport library", top_k=5) for store in made))
    assert retrieved(made[0], "airport library", top_k=1)[0][0][0] == "3"
