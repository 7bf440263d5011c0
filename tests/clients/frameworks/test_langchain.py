"""langchain-elasticsearch: similarity search with scores, filters, hybrid search, diversity, deletion."""

import pytest
from conftest import embed, same, texts
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_elasticsearch import DenseVectorStrategy, ElasticsearchStore


class Embedding(Embeddings):
    def embed_documents(self, texts):
        return [embed(text) for text in texts]

    def embed_query(self, text):
        return embed(text)


def stores(sides, **options):
    documents = [Document(page_content=text, metadata={"topic": text.split()[0], "n": number}) for number, text in enumerate(texts())]
    ids = [str(number) for number in range(len(documents))]
    made = []
    for url, index in ((sides.outrigger, sides.ours), (sides.direct, sides.twin)):
        store = ElasticsearchStore(index_name=index, embedding=Embedding(), es_url=url, **options)
        store.add_documents(documents, ids=ids)
        if not made:
            sides.make_twin()
        made.append(store)
    sides.settle()
    return made


def found(pairs):
    return [((document.page_content, document.metadata["n"]), score) for document, score in pairs]


def both(made, call):
    same(*(found(call(store)) for store in made))


@pytest.mark.parametrize("similarity", ["COSINE", "EUCLIDEAN_DISTANCE", "DOT_PRODUCT", "MAX_INNER_PRODUCT"])
def test_similarity_search(sides, similarity):
    made = stores(sides, distance_strategy=similarity)
    before = sides.served()
    for text in ("harbour note 7", "library", "airport kitchen"):
        for k in (1, 4, 30):
            both(made, lambda store: store.similarity_search_with_score(text, k=k, fetch_k=200))
    assert sides.served() - before >= 9, "Outrigger served none itself"


def test_filters(sides):
    made = stores(sides)
    for _ in range(2):
        # Twice: the second time a remembered filter may answer.
        for wanted in ([{"term": {"metadata.topic.keyword": "library"}}], [{"range": {"metadata.n": {"lt": 40}}}, {"term": {"metadata.topic.keyword": "kitchen"}}]):
            both(made, lambda store: store.similarity_search_with_score("harbour", k=6, fetch_k=200, filter=wanted))


def test_hybrid(sides):
    made = stores(sides, strategy=DenseVectorStrategy(hybrid=True, rrf=False))
    for text in ("kitchen note", "mountain 31"):
        # It gives no scores where it mixes them.
        answers = [[document.metadata["n"] for document in store.similarity_search(text, k=10, fetch_k=200)] for store in made]
        assert answers[0] == answers[1] and len(answers[0]) == 10


def test_maximal_marginal_relevance(sides):
    made = stores(sides)
    chosen = [[document.page_content for document in store.max_marginal_relevance_search("airport", k=5, fetch_k=40)] for store in made]
    assert chosen[0] == chosen[1] and len(chosen[0]) == 5


def test_deletion(sides):
    made = stores(sides)
    nearest = [document.metadata["n"] for document in made[0].similarity_search("library", k=3)]
    for store in made:
        assert store.delete(ids=[str(number) for number in nearest])
    sides.refresh()
    both(made, lambda store: store.similarity_search_with_score("library", k=10, fetch_k=200))
    assert not {document.metadata["n"] for document in made[0].similarity_search("library", k=50)} & set(nearest)


def test_a_retriever(sides):
    made = stores(sides)
    answers = [[document.page_content for document in store.as_retriever(search_kwargs={"k": 5, "fetch_k": 200}).invoke("mountain")] for store in made]
    assert answers[0] == answers[1]
