# What a Sensor makes of one webhook of GitHub before it filters: the few fields that the filters and
# the parameters of sensor.yaml read, and the payload cut to what correlation needs. It is data all
# the way: whatever a title or a branch holds stays a JSON string, and nothing here can fail, because
# an event whose transformation fails is dropped.
#
# Bounds: a short text 255 characters, a body 4096, a list 100 items, depth as it stands below.
# What remains as githubEvent is what `resumer replay` shows; a test holds the two together.

def object: if type == "object" then . else {} end;
def list: if type == "array" then .[:100] else [] end;
def scalar: if type == "number" or type == "boolean" then . else null end;
def text: if type == "string" then .[:255] else null end;
# Cut at a blank, because half of `task-123` would be another task.
def prose: if type != "string" then null elif length <= 4096 then . else .[:4096] | sub("\\S*$"; "") end;
def some: with_entries(select(.value != null and .value != {}));
def word: if type == "string" then .[:255] else "" end;

def user: object | {login: (.login | text), type: (.type | text)} | some;
def labels: list | map(object | {name: (.name | text)} | some);
def branch: object
  | {ref: (.ref | text), sha: (.sha | text), repo: (.repo | object | {full_name: (.full_name | text)} | some)}
  | some;
def commit: object | {message: (.message | prose)} | some;
def subject: object
  | {number: (.number | scalar), state: (.state | text), title: (.title | prose), body: (.body | prose),
     html_url: (.html_url | text), draft: (.draft | scalar), merged: (.merged | scalar),
     state_reason: (.state_reason | text), author_association: (.author_association | text),
     created_at: (.created_at | text), updated_at: (.updated_at | text),
     closed_at: (.closed_at | text), merged_at: (.merged_at | text),
     user: (.user | user), merged_by: (.merged_by | user),
     labels: (if (.labels | type) == "array" then .labels | labels else null end),
     head: (.head | branch), base: (.base | branch),
     pull_request: (.pull_request | object | {html_url: (.html_url | text)} | some)}
  | some;
def remark: object
  | {id: (.id | scalar), state: (.state | text), body: (.body | prose), html_url: (.html_url | text),
     author_association: (.author_association | text), submitted_at: (.submitted_at | text),
     created_at: (.created_at | text), user: (.user | user)}
  | some;
def check: object
  | {id: (.id | scalar), name: (.name | text), status: (.status | text), conclusion: (.conclusion | text),
     head_branch: (.head_branch | text), head_sha: (.head_sha | text), html_url: (.html_url | text),
     event: (.event | text), display_title: (.display_title | prose), head_commit: (.head_commit | commit),
     app: (.app | object | {slug: (.slug | text)} | some),
     check_suite: (.check_suite | object | {head_branch: (.head_branch | text)} | some),
     pull_requests: (if (.pull_requests | type) == "array" then .pull_requests | list | map(object
       | {number: (.number | scalar), head: (.head | branch), base: (.base | branch)} | some) else null end)}
  | some;

(.body | object)
| . as $body
| (.pull_request | object) as $pull
| (.review | object) as $review
| {"X-GitHub-Event": (."X-GitHub-Event" | text), "X-GitHub-Delivery": (."X-GitHub-Delivery" | text),
   action: (.action | text), number: (.number | scalar), ref: (.ref | text), after: (.after | text),
   head_commit: (.head_commit | commit), label: (.label | object | {name: (.name | text)} | some),
   pull_request: (.pull_request | subject), issue: (.issue | subject),
   review: (.review | remark), comment: (.comment | remark),
   check_suite: (.check_suite | check), check_run: (.check_run | check),
   workflow_run: (.workflow_run | check),
   repository: (.repository | object | {full_name: (.full_name | text)} | some),
   sender: (.sender | user)}
| some
| . as $event

# The task: a label `task-5`; else a branch `task-5` or `task-5-…`; else `task-5` in the title or the
# body. The operator reads the event again and has the last word.
| ([$event.pull_request.labels?, $event.issue.labels?] | map(list[] | .name // "")) as $labels
| [($labels[] | capture("^task-(?<id>[0-9]{1,63})$")),
   ([$event.pull_request.head.ref?, $event.ref?, $event.check_suite.head_branch?, $event.workflow_run.head_branch?]
    | .[] | strings | ltrimstr("refs/heads/") | capture("^task-(?<id>[0-9]{1,63})(-|$)")),
   ([$event.pull_request.title?, $event.issue.title?, $event.pull_request.body?, $event.issue.body?]
    | .[] | strings | capture("(^|[^0-9A-Za-z_-])task-(?<id>[0-9]{1,63})([^0-9A-Za-z_-]|$)"))]
  as $tasks

| {
    # Always strings, so that a filter finds each of them.
    event: ($event."X-GitHub-Event" | word),
    action: ($event.action | word),
    label: ($event.label.name? | word),
    review: ($event.review.state? | word | ascii_downcase),
    merged: ($pull.merged == true | tostring),
    repository: ($event.repository.full_name? | word),
    taskId: ($tasks[0].id | word),

    # GitHub's id of the delivery, as far as it can be part of a name.
    name: ("resume-" + ($event."X-GitHub-Delivery" | word | ascii_downcase | gsub("[^a-z0-9]+"; "-") | .[:40] | sub("-+$"; "")) + "-"),

    # Values for the next steps of a workflow.
    number: ($pull.number | if type == "number" then tostring else "" end),
    url: ($pull.html_url | word),
    reviewId: ($review.id | if type == "number" then tostring else "" end),
    at: (($review.submitted_at // $pull.updated_at) | word),

    githubEvent: $event
  }
