"""local_example.py [SCRIPT]: a pilot that runs SCRIPT, ./process_task.sh by itself, for each token."""

import sys

import picasconfig

from picas.actors import RunActor
from picas.clients import CouchDB
from picas.executers import execute


class ExampleActor(RunActor):
    """Runs a script with a token's input and id, and keeps what it prints."""

    script = sys.argv[1] if len(sys.argv) > 1 else "./process_task.sh"

    def process_task(self, task):
        """Show the token, and run the script for it."""
        print("-----------------------")
        print("Working on token:", task.id)
        for field, value in task.doc.items():
            print(field, value)
        print("-----------------------", flush=True)
        self.subprocess, task["exit_code"], out, err = execute([self.script, task["input"], task.id])
        task.put_attachment(f"logs_{task.id}.out", out)
        task.put_attachment(f"logs_{task.id}.err", err)
        task.done()


if __name__ == "__main__":
    db = CouchDB(
        url=picasconfig.PICAS_HOST_URL,
        db=picasconfig.PICAS_DATABASE,
        username=picasconfig.PICAS_USERNAME,
        password=picasconfig.PICAS_PASSWORD,
    )
    ExampleActor(db).run(max_token_time=1800, max_scrub=2)
