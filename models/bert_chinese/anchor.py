"""What a model without any deep learning reaches on the same test reviews: the bar that BERT has to clear.

    .venvs/models/bin/python -m models.bert_chinese.anchor

writes anchors.json: TF-IDF of 1-to-3-grams of characters with logistic regression, fitted to the training
split.
"""

import json
from pathlib import Path

from models.bert_chinese.teacher import ngrams
from models.training import reviews


def main() -> None:
    """Fit, measure on the test split, write."""
    data = reviews.load()
    model = ngrams().fit(data.train.texts, data.train.labels)
    accuracy = float((model.predict(data.test.texts) == data.test.labels).mean())
    anchor = {"name": "TF-IDF with logistic regression", "metric": "accuracy", "value": round(accuracy, 4)}
    path = Path(__file__).with_name("anchors.json")
    path.write_text(json.dumps([anchor], indent=1) + "\n")
    print(f"{anchor['name']}: accuracy {accuracy:.4f} on {len(data.test.texts)} reviews; wrote {path.name}")


if __name__ == "__main__":
    main()
