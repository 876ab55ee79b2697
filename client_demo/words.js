// What the page says, in English and in Chinese. What the server says of a mistake comes in English.

const WORDS = {
  en: {
    other: '中文', idle: 'not connected', connecting: 'connecting…', live: 'live', reconnecting: 'reconnecting…',
    start: 'Start with my camera', startVoice: 'or with my voice alone',
    noVoice: 'Your microphone is off: switch it on, and the mouth follows your voice.', privacy: 'The picture of your camera goes to this server only and is not stored.',
    kept: 'The picture of your camera stays on this device.', private: 'Keep my picture here',
    privateHelp: 'Your face is found on this device. Only numbers leave it: where 478 points of it are, and how bright thirty spots in your mouth.',
    loading: 'Fetching what finds your face…', notFound: 'Your face cannot be found on this device, so nothing was sent. Switch “Keep my picture here” off, or try another browser.',
    label: 'AI-generated', who: 'Who will you be?', own: 'Your own picture',
    drop: 'drop it here or choose a file: one face, looking at the camera', chosen: 'You chose', before: 'Yours, last time',
    fps: 'pictures/s', delay: 'delay', watching: 'watching',
    smaller: 'a little softer: the server is busy', half: 'softer: the server is busy', warp: 'plain: the server is very busy',
    recalibrate: 'Recalibrate', mirror: 'Mirror', full: 'Full screen', stop: 'Stop', microphone: 'Microphone',
    share: 'Share link', copied: 'Link copied', record: 'Record', recording: 'Stop recording',
    hold: 'Hold', holdGaze: 'eyes on the camera', holdSmile: 'a smile', holdMouth: 'mouth shut',
    background: 'Background', 'own-ground': 'its own', blurred: 'out of focus', light: 'light', dark: 'dark', green: 'green, for OBS',
    backgroundHelp: 'Green is for OBS: a link for viewers with ?transparent at its end takes it out',
    expression: 'Expression', mood: 'Keep its mood', token: 'Token', useToken: 'Use it in this tab',
    settings: 'While you are live',
    footer: 'The photographs among the sample portraits are averages of two dozen people each: nobody looks like this. '
      + "The paintings are in the public domain. Use a real person's picture only with their consent.",
    refused: 'The camera was refused. Allow it for this page in the address bar, then press Start.',
    none: 'No camera was found. Plug one in, then press Start.',
    busy: 'The camera is in use by another program. Close that one, then press Start.',
    failed: 'The camera could not be started:', unplugged: 'The camera was unplugged or switched off.',
    insecure: 'Browsers give the camera to https pages and to localhost only. Open this page through one of them.',
    lost: 'The connection was lost. Reconnecting…',
    gone: 'The connection was lost and the server does not answer. Press Start to try again.',
    silent: 'The server does not answer. Is it still running?', reload: 'Reload the page once it is.',
    noFace: 'No face in your camera: move into the light, in front of it.', ahead: 'Look straight ahead…',
    noMicrophone: 'The microphone was refused or not found. Allow it for this page in the address bar, then try again.',
    wantsToken: 'This server wants a token. Ask whoever runs it for yours.',
    noFull: 'This browser does not allow full screen here.', noRecord: 'This browser cannot record.',
    guideChoose: 'First, choose who you will be.', guideStart: 'Now start, and allow the camera.',
    guideAhead: 'Look straight ahead for a moment.', guideMove: 'Speak, smile, turn your head: it does what you do.',
    check: 'Check my set-up', close: 'Close', checking: 'Looking…', checkWell: 'Everything is as it should be.',
    checkBad: 'Something has to be put right first.', checkFailed: 'This could not be looked at:',
    checkServer: 'The server answers in {} ms.', checkServerBad: 'The server answers, but not well: ask whoever runs it.',
    checkCamera: 'The camera works: {} pixels.', checkRate: 'It gives {} pictures a second.',
    checkRateSlow: 'It gives only {} pictures a second: more light helps, or another camera.',
    checkCodecs: 'This browser can show the avatar ({}).', checkNoCodecs: 'This browser knows no video format that the server sends: try another.',
    checkNetwork: 'The network lets the picture through, as far as can be seen from here.',
    checkRelay: 'The network lets the picture through, by a relay where needed.',
    checkNoRelay: "The server's relay (TURN) cannot be reached: behind a strict firewall the picture will not come. Ask whoever runs it.",
    checkNoWay: 'This network gives the browser no address to be reached at: a VPN or an extension may block WebRTC.',
    checkPrivacy: 'Your face can be found on this device (“Keep my picture here”).',
    checkNoPrivacy: 'Your face cannot be found on this device: “Keep my picture here” will not work.',
    recalibrateHelp: "Look straight ahead, then press: the head's place at rest is taken anew",
    speakHelp: 'Viewers hear you, in step with the picture', shareHelp: 'For friends, and for OBS as a browser source',
    moodHelp: "How much of the portrait's own smile or frown stays when your face is calm",
    recordHelp: 'A video of the avatar, marked as AI-generated, for this device',
  },
  zh: {
    other: 'English', idle: '未连接', connecting: '正在连接…', live: '直播中', reconnecting: '正在重新连接…',
    start: '用我的摄像头开始', startVoice: '或只用声音',
    noVoice: '麦克风已关闭：打开后，嘴会跟着你的声音动。', privacy: '摄像头画面只会发送到此服务器，不会被保存。',
    kept: '摄像头画面只留在本设备。', private: '画面不离开本设备',
    privateHelp: '在本设备上识别人脸，只发送数字：脸上 478 个点的位置，以及嘴里三十处的明暗。',
    loading: '正在获取人脸识别组件…', notFound: '本设备无法识别人脸，因此没有发送任何内容。请关闭“画面不离开本设备”，或换一个浏览器。',
    label: 'AI 生成', who: '你想成为谁？', own: '你自己的图片',
    drop: '拖到这里或选择文件：一张正对镜头的脸', chosen: '你选的', before: '上次的图片',
    fps: '帧/秒', delay: '延迟', watching: '观看者',
    smaller: '画面略柔：服务器繁忙', half: '画面较柔：服务器繁忙', warp: '简化画面：服务器非常繁忙',
    recalibrate: '重新校准', mirror: '镜像', full: '全屏', stop: '停止', microphone: '麦克风',
    share: '分享链接', copied: '链接已复制', record: '录制', recording: '停止录制',
    hold: '保持', holdGaze: '注视镜头', holdSmile: '微笑', holdMouth: '闭嘴',
    background: '背景', 'own-ground': '原背景', blurred: '虚化', light: '浅色', dark: '深色', green: '绿色（用于 OBS）',
    backgroundHelp: '绿色用于 OBS：观看链接末尾加 ?transparent 即可去掉背景',
    expression: '表情强度', mood: '保留原神情', token: '令牌', useToken: '在此标签页使用',
    settings: '直播设置',
    footer: '示例照片均为二十多人的平均脸，并非真实人物。画作属于公有领域。使用真人图片须征得本人同意。',
    refused: '摄像头被拒绝。请在地址栏允许本页使用摄像头，然后点“开始”。',
    none: '没有找到摄像头。请接上摄像头，然后点“开始”。',
    busy: '摄像头正被其他程序使用。请关闭该程序，然后点“开始”。',
    failed: '无法启动摄像头：', unplugged: '摄像头已拔出或关闭。',
    insecure: '浏览器只允许 https 页面和 localhost 使用摄像头。请通过其中之一打开本页。',
    lost: '连接已断开，正在重新连接…', gone: '连接已断开，服务器没有响应。请点“开始”重试。',
    silent: '服务器没有响应。它还在运行吗？', reload: '服务器运行后请刷新页面。',
    noFace: '摄像头里没有人脸：请到光线充足处，正对镜头。', ahead: '请正视前方…',
    noMicrophone: '麦克风被拒绝或未找到。请在地址栏允许，然后重试。',
    wantsToken: '此服务器需要令牌。请向管理员索取。',
    noFull: '此浏览器不允许在这里全屏。', noRecord: '此浏览器无法录制。',
    guideChoose: '首先，选择你想成为谁。', guideStart: '现在点“开始”，并允许使用摄像头。',
    guideAhead: '请正视前方片刻。', guideMove: '说话、微笑、转头：它会跟着你动。',
    check: '检查我的设备', close: '关闭', checking: '正在检查…', checkWell: '一切正常。',
    checkBad: '有问题需要先解决。', checkFailed: '此项无法检查：',
    checkServer: '服务器在 {} 毫秒内响应。', checkServerBad: '服务器响应异常：请联系管理员。',
    checkCamera: '摄像头正常：{} 像素。', checkRate: '每秒 {} 帧。',
    checkRateSlow: '每秒只有 {} 帧：增加光线或换一个摄像头会有帮助。',
    checkCodecs: '此浏览器可以显示头像（{}）。', checkNoCodecs: '此浏览器不支持服务器发送的视频格式：请换一个。',
    checkNetwork: '就目前所见，网络可以传送画面。', checkRelay: '网络可以传送画面，必要时通过中继。',
    checkNoRelay: '无法连接服务器的中继（TURN）：在严格的防火墙后画面将无法到达。请联系管理员。',
    checkNoWay: '此网络没有给浏览器可用的地址：VPN 或扩展程序可能阻止了 WebRTC。',
    checkPrivacy: '可以在本设备上识别人脸（“画面不离开本设备”）。', checkNoPrivacy: '无法在本设备上识别人脸：“画面不离开本设备”不可用。',
    recalibrateHelp: '正视前方后点击：重新确定头部的静止位置',
    speakHelp: '观看者能听到你，声音与画面同步', shareHelp: '给朋友，或作为 OBS 的浏览器源',
    moodHelp: '你表情平静时，保留多少肖像原来的微笑或皱眉',
    recordHelp: '把标有“AI 生成”的头像视频保存到本设备',
  },
};

const KEPT = 'avatar-stream-language';
let language = localStorage.getItem(KEPT) ?? (navigator.language.startsWith('zh') ? 'zh' : 'en');

// The word for a key; {} in it stands for a figure.
export const t = (key, figure = '') => (WORDS[language][key] ?? WORDS.en[key])?.replace('{}', figure);

// Every element says what its data-t names, and hints what its data-help names.
export function speak(chosen = language) {
  language = chosen;
  document.documentElement.lang = language === 'zh' ? 'zh-Hans' : 'en';
  for (const element of document.querySelectorAll('[data-t]')) element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll('[data-help]')) element.title = t(element.dataset.help);
}

export function otherLanguage() {
  speak(language === 'zh' ? 'en' : 'zh');
  localStorage.setItem(KEPT, language);
}
