"""categories.py - what a retrieved passage has to do with the fact, decided by strings and pointers alone.

The first that fits, in this order:
  states    subject and object both stand in it, or it is annotated with the fact (the gold)
  fellow    it is annotated with the same relation to the same object, of another subject
  object    the object stands in it
  subject   the subject stands in it
  relation  it is annotated with the same relation, to another object
  other     none of these
"""
import facts

NAMES = ("states", "fellow", "object", "subject", "relation", "other")
LABELS = {"states": "states the fact", "fellow": "same relation and object, another subject",
          "object": "object only", "subject": "subject only",
          "relation": "same relation, other object", "other": "other"}
SHORT = dict(LABELS, fellow="same relation + object", relation="same relation")


class Judge:
    def __init__(self, passages):
        self.annotated = {p["id"]: {r: set(p["meta"].get(r, ())) for r in facts.RELATIONS} for p in passages}
        # the relation's objects by any name: pointers keep the first lemma, a fact what the gloss has
        self.texts = facts.Texts(passages)
        self.place = {p["id"]: i for i, p in enumerate(passages)}
        self.same, self.having = {}, {}

    def learn(self, all_facts):
        """Which passages are annotated with (relation, object)."""
        for f in all_facts:
            self.same.setdefault((f["relation"], f["object"]), set()).update(f["annotated"])

    def stands(self, phrase):
        if phrase not in self.having:
            self.having[phrase] = set(self.texts.having(phrase))
        return self.having[phrase]

    def of(self, fact, passage):
        """The category of a passage (by id) for a fact."""
        at = self.place[passage]
        if passage in fact["gold"]:
            return "states"
        if passage in self.same.get((fact["relation"], fact["object"]), ()):
            return "fellow"
        if at in self.stands(fact["object"]):
            return "object"
        if at in self.stands(fact["subject"]):
            return "subject"
        return "relation" if self.annotated[passage][fact["relation"]] else "other"
