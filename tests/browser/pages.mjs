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
  await call(stack, used.secret, '/api/v1/tickets', 'POST');
  await eventually('the calls are recorded', async () => (await api(stack, 'GET', '/v1/audit?key=crm-sync')).items.length >= 18);
  const enforcement = await api(stack, 'GET', '/v1/gateways');
  return {
    key: used.key.id, rotated: rotated.key.id, token: auditor.token.id, auditor: auditor.secret, admin: admin.secret,
    version: enforcement.version,
  };
}

/** The pages: a name for files, the address, the section it belongs to. */
export const PAGES = [
  { name: 'keys', path: () => '/keys', section: '/keys', docs: true },
  { name: 'keys-none', path: () => '/keys?q=nothing-is-called-so', section: '/keys' },
  { name: 'keys-due', path: () => '/keys?look=unused&environment=live', section: '/keys' },
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
  { name: 'not-found', path: () => '/nothing-here', section: null },
];
