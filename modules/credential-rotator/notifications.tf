# Mails about rotations that need a person, and every alarm, go to this topic.
#
# Without a key of your own it is not encrypted by KMS (its messages hold no secret):
# neither EventBridge nor CloudWatch may use alias/aws/sns, the key that AWS manages, whose
# policy nobody can change, and a mail that never comes is worse than one in clear.
resource "aws_sns_topic" "notifications" {
  name              = "${var.name}-notifications"
  display_name      = "Credential rotation"
  kms_master_key_id = var.kms_key_arn
}

resource "aws_sns_topic_policy" "notifications" {
  arn = aws_sns_topic.notifications.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      # No condition: EventBridge fills in none when it publishes to a topic, so that one on
      # aws:SourceArn would keep every mail back ("Using resource-based policies for
      # EventBridge", in its user guide).
      {
        Sid       = "EventBridgeMayTellOfRotations"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = aws_sns_topic.notifications.arn
      },
      {
        Sid       = "TheAlarmsMayTellOfThemselves"
        Effect    = "Allow"
        Principal = { Service = "cloudwatch.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = aws_sns_topic.notifications.arn
        Condition = {
          ArnLike      = { "aws:SourceArn" = "arn:${local.partition}:cloudwatch:${local.region}:${local.account}:alarm:${var.name}-*" }
          StringEquals = { "aws:SourceAccount" = local.account }
        }
      },
    ]
  })
}

resource "aws_sns_topic_subscription" "mail" {
  count = var.notification_email == null ? 0 : 1

  topic_arn = aws_sns_topic.notifications.arn
  protocol  = "email"
  endpoint  = var.notification_email
}

resource "aws_cloudwatch_event_rule" "notifications" {
  name           = "${var.name}-notifications"
  description    = "Key rotations that have failed or are held, and need a person"
  event_bus_name = local.bus
  event_pattern = jsonencode({
    source      = [local.source]
    detail-type = ["Credential Rotation Failed", "Credential Rotation Held"]
  })
}

resource "aws_cloudwatch_event_target" "notifications" {
  rule           = aws_cloudwatch_event_rule.notifications.name
  event_bus_name = local.bus
  arn            = aws_sns_topic.notifications.arn

  # {"message": "Credential Rotation Held: svc-billing (GitLab project 4711)", "reason": "AKIA... is active, not ours ..."}
  #
  # The reason stands outside of quotation marks, where EventBridge puts it in as JSON:
  # inside, one that has a quotation mark itself might break the mail.
  input_transformer {
    input_paths = {
      what    = "$.detail-type"
      user    = "$.detail.user"
      project = "$.detail.project_id"
      reason  = "$.detail.reason"
    }
    input_template = "{\"message\": \"<what>: <user> (GitLab project <project>)\", \"reason\": <reason>}"
  }

  depends_on = [aws_sns_topic_policy.notifications]
}
