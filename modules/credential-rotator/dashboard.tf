resource "aws_cloudwatch_dashboard" "rotator" {
  dashboard_name = var.name
  dashboard_body = jsonencode({
    start          = "-P7D" # keys report once a day
    periodOverride = "inherit"
    widgets        = local.widgets
  })
}

locals {
  widgets = [
    {
      type = "alarm", x = 0, y = 0, width = 24, height = 2
      properties = {
        title = "Alarms"
        alarms = concat([
          aws_cloudwatch_metric_alarm.errors.arn,
          aws_cloudwatch_metric_alarm.failures.arn,
          aws_cloudwatch_metric_alarm.key_age.arn,
          aws_cloudwatch_metric_alarm.notifications.arn,
          aws_cloudwatch_metric_alarm.token.arn,
        ], aws_cloudwatch_metric_alarm.follow_up[*].arn)
      }
    },
    {
      type = "metric", x = 0, y = 2, width = 12, height = 7
      properties = {
        title   = "Runs by result, a day"
        region  = local.region
        view    = "timeSeries"
        stacked = true
        period  = 86400
        stat    = "Sum"
        metrics = [[{ expression = "SEARCH('{${local.namespace},Status} MetricName=\"Results\"', 'Sum', 86400)", label = "", id = "results" }]]
        yAxis   = { left = { min = 0, label = "runs", showUnits = false } }
      }
    },
    {
      type = "metric", x = 12, y = 2, width = 12, height = 7
      properties = {
        title   = "Time per step, 9 of 10 were faster"
        region  = local.region
        view    = "timeSeries"
        stacked = false
        period  = 86400
        stat    = "p90"
        metrics = [[{ expression = "SEARCH('{${local.namespace},Step} MetricName=\"StepDuration\"', 'p90', 86400)", label = "", id = "steps" }]]
        yAxis   = { left = { min = 0, label = "ms", showUnits = false } }
      }
    },
    {
      type = "metric", x = 0, y = 9, width = 12, height = 8
      properties = {
        title       = "Oldest published key"
        region      = local.region
        view        = "timeSeries"
        stacked     = false
        period      = 86400
        stat        = "Maximum"
        metrics     = [[local.namespace, "PublishedKeyAge", "Function", aws_lambda_function.rotator.function_name, { label = "oldest" }]]
        yAxis       = { left = { min = 0, label = "days", showUnits = false } }
        annotations = { horizontal = [{ label = "promised", value = var.alarms.max_age_days }] }
      }
    },
    # The metric has no dimension for the user (a thousand services would be a thousand
    # metrics to pay for); the log line that it comes from names them.
    {
      type = "log", x = 12, y = 9, width = 12, height = 8
      properties = {
        title  = "Age of each published key, in days"
        region = local.region
        view   = "table"
        query  = "SOURCE '${aws_cloudwatch_log_group.rotator.name}' | filter ispresent(PublishedKeyAge) | stats latest(PublishedKeyAge) as days by user | sort days desc | limit 1000"
      }
    },
    {
      type = "metric", x = 0, y = 17, width = 12, height = 6
      properties = {
        title       = "Days until the GitLab token expires"
        region      = local.region
        view        = "timeSeries"
        stacked     = false
        period      = 86400
        stat        = "Minimum"
        metrics     = [[local.namespace, "TokenDaysLeft", "Function", aws_lambda_function.rotator.function_name, { label = "left" }]]
        yAxis       = { left = { min = 0, label = "days", showUnits = false } }
        annotations = { horizontal = [{ label = "alarm", value = 14 }] }
      }
    },
  ]
}
