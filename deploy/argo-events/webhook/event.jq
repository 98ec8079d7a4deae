# What the Sensor makes of one webhook before it filters. As in ../github/event.jq, it is data all the
# way and nothing here can fail.
#
# Bounds: a text 4096 characters, a list 100 items, an object 100 fields, depth 8; 32 values.

def object: if type == "object" then . else {} end;
def word: if type == "string" then .[:255] elif type == "number" then tostring else "" end;
def cut($depth):
  if type == "string" then .[:4096]
  elif type == "array" then if $depth > 0 then .[:100] | map(cut($depth - 1)) else [] end
  elif type == "object" then
    if $depth > 0 then to_entries | .[:100] | map(.value |= cut($depth - 1)) | from_entries else {} end
  else . end;

def header($name): .header | object | .[$name] | if type == "array" then .[0] else . end | if type == "string" then .[:512] else "" end;

({"resumer.argoproj.io/traceparent": header("Traceparent"), "resumer.argoproj.io/tracestate": header("Tracestate")}
  | with_entries(select(.value != ""))) as $trace
| (.body | object)
| {
    taskId: (.task | word),
    type: (.type | word),
    values: [.values | object | to_entries[] | select(.value | type == "string") | {name: .key, value: .value}][:32],
    githubEvent: cut(8),

    # The W3C trace context of who calls, if it has one: docs/tracing.md.
    annotations: $trace
  }
