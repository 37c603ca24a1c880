resource "aws_iam_role" "rotator" {
  name        = var.name
  description = "What the function ${var.name} may do: replace the keys of users below ${var.user_path}"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "LambdaMayRunTheFunctionAsThisRole"
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy" "rotator" {
  name = "rotate-keys"
  role = aws_iam_role.rotator.id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = concat(local.always, local.token, local.own_key, local.network)
  })
}

locals {
  always = [
    # It may not tag a user: a tag binds a user to the projects that may get its key. It
    # may not attach a policy, make a user or see one outside of the path.
    {
      Sid    = "ReplaceTheKeysOfUsersBelowThePath"
      Effect = "Allow"
      Action = [
        "iam:CreateAccessKey",
        "iam:DeleteAccessKey",
        "iam:GetAccessKeyLastUsed",
        "iam:GetUser",
        "iam:ListAccessKeys",
        "iam:ListAttachedUserPolicies",
        "iam:UpdateAccessKey",
      ]
      Resource = "arn:${local.partition}:iam::${local.account}:user${var.user_path}*"
    },
    {
      Sid      = "KeepTheJournal"
      Effect   = "Allow"
      Action   = ["dynamodb:GetItem", "dynamodb:PutItem"]
      Resource = aws_dynamodb_table.journal.arn
    },
    {
      Sid      = "FindRotationsInFlight"
      Effect   = "Allow"
      Action   = "dynamodb:Query"
      Resource = "${aws_dynamodb_table.journal.arn}/index/in-flight"
    },
    {
      Sid      = "SwitchTheFollowUpOnAndOff"
      Effect   = "Allow"
      Action   = ["events:DisableRule", "events:EnableRule"]
      Resource = aws_cloudwatch_event_rule.follow_up.arn
    },
    {
      Sid       = "TellWhatBecomesOfARotation"
      Effect    = "Allow"
      Action    = "events:PutEvents"
      Resource  = "arn:${local.partition}:events:${local.region}:${local.account}:event-bus/${local.bus}"
      Condition = { StringEquals = { "events:source" = local.source } }
    },
    {
      Sid      = "WriteItsOwnLog"
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
      Resource = "${aws_cloudwatch_log_group.rotator.arn}:*"
    },
    # Lambda sends it in the role's name.
    {
      Sid      = "PutFailedEventsIntoTheFailureQueue"
      Effect   = "Allow"
      Action   = "sqs:SendMessage"
      Resource = aws_sqs_queue.failures.arn
    },
  ]

  token = concat(
    var.gitlab_token_secret_arn == null ? [] : [{
      Sid      = "ReadTheGitLabTokenFromItsSecret"
      Effect   = "Allow"
      Action   = "secretsmanager:GetSecretValue"
      Resource = var.gitlab_token_secret_arn
    }],
    var.gitlab_token_parameter_arn == null ? [] : [{
      Sid      = "ReadTheGitLabTokenFromItsParameter"
      Effect   = "Allow"
      Action   = "ssm:GetParameter"
      Resource = var.gitlab_token_parameter_arn
    }],
    # The context names the one thing that may be decrypted with it.
    var.gitlab_token_kms_key_arn == null ? [] : [{
      Sid      = "DecryptTheGitLabTokenAndNothingElse"
      Effect   = "Allow"
      Action   = "kms:Decrypt"
      Resource = var.gitlab_token_kms_key_arn
      Condition = { StringEquals = merge(
        var.gitlab_token_secret_arn == null ? {} : { "kms:EncryptionContext:SecretARN" = var.gitlab_token_secret_arn },
        var.gitlab_token_parameter_arn == null ? {} : { "kms:EncryptionContext:PARAMETER_ARN" = var.gitlab_token_parameter_arn },
      ) }
    }],
  )

  own_key = var.kms_key_arn == null ? [] : [{
    Sid       = "UseTheKeyThroughTheJournalAndTheQueueOnly"
    Effect    = "Allow"
    Action    = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
    Resource  = var.kms_key_arn
    Condition = { StringLike = { "kms:ViaService" = ["dynamodb.${local.region}.*", "sqs.${local.region}.*"] } }
  }]

  # Lambda, not the function, attaches it to the network, with the rights of its role. AWS
  # knows no names for interfaces to come; so all are allowed, and denied to the code.
  network = [
    for statement in [
      {
        Sid    = "LambdaMayAttachTheFunctionToTheNetwork"
        Effect = "Allow"
        Action = [
          "ec2:AssignPrivateIpAddresses",
          "ec2:CreateNetworkInterface",
          "ec2:DeleteNetworkInterface",
          "ec2:DescribeNetworkInterfaces",
          "ec2:DescribeSubnets",
          "ec2:UnassignPrivateIpAddresses",
        ]
        Resource = "*"
      },
      {
        Sid       = "TheFunctionItselfMayNot"
        Effect    = "Deny"
        Action    = "ec2:*"
        Resource  = "*"
        Condition = { ArnEquals = { "lambda:SourceFunctionArn" = "arn:${local.partition}:lambda:${local.region}:${local.account}:function:${var.name}" } }
      },
    ] : statement if var.vpc != null
  ]
}
