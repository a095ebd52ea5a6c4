// Every page there is, with what has to be there to look at it. Who adds a page adds it here: the tests for all pages
// (axe, without scripts, stored markup, screenshots) take theirs from this list, and compare it with the navigation.
import { api, call, eventually } from './stack.mjs';

/** Text that would do something if a page took it for markup. */
export const MARKUP = '<script>document.title="taken over"</script><img src=x onerror=alert(1)>"\'&amp;';

/** Fills an installation: keys in all states, calls, tokens. Gives what the pages' addresses need. */
export async function fill(stack, description = MARKUP) {
  const key = (name, more = {}) => api(stack, 'POST', '/v1/keys', {
    name, environment: 'live', scopes: ['contacts:read', 'tickets:write'], description, ...more,
  });
  const used = await key('crm-sync', {
    rate_limit: { per_minute: 600, per_hour: 10000, burst: 50 }, ip_allowlist: ['127.0.0.0/8', '2001:db8::/32'],
  });
  await key('nightly-report', { environment: 'test', scopes: ['conversations:read'], description: 'Mails the numbers of the day' });
  const rotated = await key('support-desk', { scopes: ['tickets:read', 'tickets:write', 'contacts:read', 'conversations:read'] });
  await key('partner-import', { expires_at: new Date(Date.now() + 5 * 86400e3).toISOString() });
  await key('old-dashboard');
  await api(stack, 'POST', `/v1/keys/${rotated.key.id}/rotate`, { overlap: '24h' });
  await api(stack, 'POST', '/v1/keys/old-dashboard/revoke?wait=5s');
  const auditor = await api(stack, 'POST', '/v1/tokens', { name: 'auditor of the quarter', role: 'auditor' });
  const admin = await api(stack, 'POST', '/v1/tokens', { name: 'ops', role: 'admin', expires_at: new Date(Date.now() + 30 * 86400e3).toISOString() });
  await eventually('the gateway knows the key', async () => await call(stack, used.secret, '/api/v1/contacts') === 200);
  for (let n = 0; n < 12; n++) await call(stack, used.secret, `/api/v1/contacts?page=${n}`);
  for (let n = 0; n < 4; n++) await call(stack, used.secret, '/api/v1/agents');
  await call(stack, used.secret, '/api/v1/tickets?notify=true', 'POST', { subject: MARKUP });
  await eventually('the calls are recorded', async () => (await api(stack, 'GET', '/v1/audit?key=crm-sync')).items.length >= 18);
  const enforcement = await api(stack, 'GET', '/v1/gateways');
  // A policy with a version before, and calls that were decided otherwise.
  const policy = (await api(stack, 'GET', '/v1/policy')).document;
  policy.scopes[0].description = MARKUP;
  policy.routes = policy.routes.filter(({ scope }) => scope !== 'webhooks:manage');
  await api(stack, 'PUT', '/v1/policy?wait=5s', policy);
  await call(stack, used.secret, `/nowhere/${encodeURIComponent('<script>')}`);
  const refused = await eventually('the refused call is recorded', async () => (
    (await api(stack, 'GET', '/v1/audit?reason=route_not_mapped')).items[0]
  ));
  const sent = (await api(stack, 'GET', '/v1/audit?method=POST')).items[0];
  return {
    key: used.key.id, rotated: rotated.key.id, token: auditor.token.id, auditor: auditor.secret, admin: admin.secret,
    version: enforcement.version, gateway: enforcement.items[0].id, refused: refused.id, sent: sent.id,
  };
}

/** The pages: a name for files, the address, the section it belongs to. */
export const PAGES = [
  { name: 'keys', path: () => '/keys', section: '/keys', docs: true },
  { name: 'keys-none', path: () => '/keys?q=nothing-is-called-so', section: '/keys' },
  { name: 'keys-due', path: () => '/keys?attention=unused&environment=live', section: '/keys' },
  { name: 'key-new', path: () => '/keys/new', section: '/keys' },
  { name: 'key', path: ({ key }) => `/keys/${key}`, section: '/keys', docs: true },
  { name: 'key-rotating', path: ({ rotated }) => `/keys/${rotated}`, section: '/keys' },
  { name: 'key-rotate', path: ({ key }) => `/keys/${key}/rotate`, section: '/keys' },
  { name: 'key-revoke', path: ({ key }) => `/keys/${key}/revoke`, section: '/keys' },
  { name: 'key-version-revoke', path: ({ rotated }) => `/keys/${rotated}/versions/1/revoke`, section: '/keys' },
  { name: 'key-enforcement', path: ({ key, version }) => `/keys/${key}/enforcement/${version}`, section: '/keys' },
  { name: 'tokens', path: () => '/tokens', section: '/tokens' },
  { name: 'token-new', path: () => '/tokens/new', section: '/tokens' },
  { name: 'token-revoke', path: ({ token }) => `/tokens/${token}/revoke`, section: '/tokens' },
  { name: 'settings', path: () => '/settings', section: '/settings' },
  { name: 'audit', path: () => '/audit', section: '/audit', docs: true },
  { name: 'audit-narrow', path: () => '/audit?key=crm-sync&status=4xx', section: '/audit' },
  { name: 'audit-none', path: () => '/audit?key=nobody', section: '/audit' },
  { name: 'audit-wrong', path: () => '/audit?ip=203.0.113&key=crm-sync', section: '/audit' },
  { name: 'record', path: ({ sent }) => `/audit/${sent}`, section: '/audit' },
  { name: 'record-refused', path: ({ refused }) => `/audit/${refused}`, section: '/audit' },
  { name: 'anomalies', path: () => '/anomalies', section: '/anomalies' },
  { name: 'leak', path: () => '/anomalies/leak', section: '/anomalies' },
  { name: 'admin-log', path: () => '/admin-log', section: '/admin-log' },
  { name: 'policy', path: () => '/policy', section: '/policy', docs: true },
  { name: 'policy-document', path: () => '/policy/document', section: '/policy' },
  { name: 'policy-explain', path: () => '/policy/explain?key=support-desk&path=/api/v1/contacts&source_ip=203.0.113.7', section: '/policy' },
  { name: 'policy-draft', path: () => '/policy/draft', section: '/policy' },
  { name: 'policy-versions', path: () => '/policy/versions', section: '/policy' },
  { name: 'policy-version', path: () => '/policy/versions/1', section: '/policy' },
  { name: 'gateways', path: () => '/gateways', section: '/gateways' },
  { name: 'gateway-remove', path: ({ gateway }) => `/gateways/remove?id=${encodeURIComponent(gateway)}`, section: '/gateways' },
  { name: 'not-found', path: () => '/nothing-here', section: null },
];
