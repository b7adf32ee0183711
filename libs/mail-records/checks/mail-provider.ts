/** The host that receives mail for Sendmux. */
export const mailHost = 'mail.sendmux.ai';

/** Receivers that customers are likely to come from, by the end of the exchange's name. */
const providers: readonly (readonly [end: string, name: string])[] = [
  [mailHost, 'Sendmux'],
  ['google.com', 'Google Workspace'],
  ['googlemail.com', 'Google Workspace'],
  ['smtp.goog', 'Google Workspace'],
  ['outlook.com', 'Microsoft 365'],
  ['mx.microsoft', 'Microsoft 365'],
  ['zoho.com', 'Zoho Mail'],
  ['zoho.eu', 'Zoho Mail'],
  ['messagingengine.com', 'Fastmail'],
  ['protonmail.ch', 'Proton Mail'],
  ['icloud.com', 'iCloud Mail'],
  ['amazonaws.com', 'Amazon SES'],
  ['mimecast.com', 'Mimecast'],
  ['pphosted.com', 'Proofpoint'],
  ['ppe-hosted.com', 'Proofpoint'],
  ['barracudanetworks.com', 'Barracuda'],
  ['mailgun.org', 'Mailgun'],
  ['sendgrid.net', 'SendGrid'],
  ['mx.cloudflare.net', 'Cloudflare Email Routing'],
  ['improvmx.com', 'ImprovMX'],
  ['yandex.net', 'Yandex'],
  ['secureserver.net', 'GoDaddy'],
  ['ovh.net', 'OVH'],
  ['gandi.net', 'Gandi'],
  ['migadu.com', 'Migadu'],
  ['mailbox.org', 'mailbox.org'],
];

/** Names who runs the host of an MX record; null when we do not know it. */
export const mailProvider = (exchange: string): string | null =>
  providers.find(([end]) => exchange === end || exchange.endsWith(`.${end}`))?.[1] ?? null;
