"""`langchain-ollama`: python langchain_client.py URL MODEL..."""

import json
import sys

import ollama
from langchain_ollama import ChatOllama, OllamaEmbeddings


def tell(url, model):
    # It looks for the model in the list before it is asked anything.
    chat = ChatOllama(
        model=model, base_url=url, num_predict=50, validate_model_on_init=True
    )
    pieces = [part.content for part in chat.stream("100 101 102")]
    vectors = OllamaEmbeddings(model=model, base_url=url).embed_documents(["a", "b"])
    error = None
    try:
        ChatOllama(model="nobody-has-it", base_url=url).invoke("1")
    except ollama.ResponseError as caught:
        error = f"{type(caught).__name__} {caught.status_code}: {caught.error}"
    return {
        "texts": [chat.invoke("100 101 102").content, "".join(pieces)],
        "pieces": len(pieces),
        "vectors": len(vectors),
        "error": error,
    }


for name in sys.argv[2:]:
    print(json.dumps(tell(sys.argv[1], name)))
